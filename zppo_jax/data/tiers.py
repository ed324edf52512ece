"""The paper's tiers of training data sets and their caps (App. B.1).

  Vero-600k and MMFineReason subsets, tier 1 (STEM, charts, text in images) at
  most 2,800 questions each, tier 2 (recognition, counting, puzzles) 1,400.

The canonical name of a subset has small letters and digits, without the domain
that Vero's configs add. So `ai2d` is one data set, whichever source has it.
"""

import re

CAPS = {1: 2800, 2: 1400}
TIERS = {
    **dict.fromkeys((
        'ai2d', 'geo170k', 'geomverse', 'geoqaplus', 'mmk12', 'cosynmath',
        'cosynchart', 'cosyndiagram', 'cosyntable', 'wemath', 'tqa',
        'visualwebinstruct', 'chartqa', 'arxivqa', 'mmr1', 'euclid', 'geo3k',
        'mmopenr1', 'bmmr', 'scienceqa', 'virl39k'), 1),
    **dict.fromkeys((
        'pathvqa', 'vqarad', 'raven', 'evochart', 'infographicvqa', 'aokvqa',
        'gqa', 'iconqa', 'vqav2', 'visual7w', 'tallyqa', 'pixelreasoner',
        'multihop', 'pixmo', 'visualprobe', 'visualsphinx', 'puzzleqa',
        'llavacot', 'zebracot'), 2),
}
# Other spellings of a data set -> its canonical name.
_SAME = {'geometry3k': 'geo3k', 'wemath20standard': 'wemath',
         'wemath20pro': 'wemath', 'chartqadifficulty': 'chartqa',
         'ai2dmerged': 'ai2d', 'arxivqaformatted': 'arxivqa',
         'multihopqa': 'multihop'}
_DOMAIN = re.compile(  # the start of the name of a Vero config
    r'^(?:stem|chart_ocr|knowledge_recognition|counting_grounding_search|'
    r'grounding_counting_search|spatial_action)-')


def canonical(subset: str) -> str:
  """One name for a data set, however its sources spell it."""
  name = _DOMAIN.sub('', subset.lower())
  name = re.sub(r'[^a-z0-9]', '', name).replace('cosyn400k', 'cosyn')
  return _SAME.get(name, name)


def cap(subset: str) -> int:
  """The most questions of a subset; 0 if the subset is in no tier."""
  return CAPS.get(TIERS.get(canonical(subset), 0), 0)
