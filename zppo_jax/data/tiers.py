"""The paper's tiers of training data sets and their caps (App. B.1).

  Vero-600k and MMFineReason subsets, tier 1 (STEM, charts, text in images) at
  most 2,800 questions each, tier 2 (recognition, counting, puzzles) 1,400.

The canonical name of a subset has small letters and digits, without the domain
that Vero's configs add. So `ai2d` is one data set, whichever source has it.
"""

import re
from collections.abc import Iterable

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
_SAME = {
    'geometry3k': 'geo3k', 'chartqadifficulty': 'chartqa',
    'ai2dmerged': 'ai2d', 'arxivqaformatted': 'arxivqa',
    'multihopqa': 'multihop', 'euclid30k': 'euclid', 'mmopenr18k': 'mmopenr1',
    'zebracotphysics': 'zebracot', 'tqatrain': 'tqa',
    **dict.fromkeys(('wemath20standard', 'wemath20pro', 'wemath2standard',
                     'wemath2pro', 'wemath2sft', 'wemathstandard',
                     'wemathpro'), 'wemath'),
}
_DOMAIN = re.compile(  # the start of the name of a Vero config
    r'^(?:stem|chart_ocr|knowledge_recognition|counting_grounding_search|'
    r'grounding_counting_search|spatial_action)-')
_COLLECTION = re.compile(r'^finevision-|\([^()]*\)$')  # as MMFineReason has it


def canonical(subset: str) -> str:
  """One name for a data set, however its sources spell it."""
  name = _COLLECTION.sub('', _DOMAIN.sub('', subset.lower()).strip())
  name = re.sub(r'[^a-z0-9]', '', name).replace('cosyn400k', 'cosyn')
  return _SAME.get(name, name)


def cap(subset: str) -> int:
  """The most questions of a subset; 0 if the subset is in no tier."""
  return CAPS.get(TIERS.get(canonical(subset), 0), 0)


# What the paper says of its mixture (App. B.1).
PAPER = 77_000
PAPER_SUBSETS = 34  # of Vero-600k


def account(subsets: Iterable[tuple[str, str]]) -> tuple[str, ...]:
  """Lines about a mixture by tiers, beside what the paper says of its own.

  Args:
    subsets: the (source, subset) of each question that stays.
  """
  by_name: dict[str, int] = {}
  by_source: dict[str, int] = {}
  names: dict[str, set[str]] = {}
  for source, subset in subsets:
    name = canonical(subset)
    by_name[name] = by_name.get(name, 0) + 1
    by_source[source] = by_source.get(source, 0) + 1
    names.setdefault(source, set()).add(name)
  lines = []
  for tier, most in CAPS.items():
    members = [name for name, of in TIERS.items() if of == tier]
    there = [name for name in members if name in by_name]
    full = sum(by_name[name] == most for name in there)
    lines.append(
        f'tier {tier}: {sum(by_name[name] for name in there)} questions of '
        f'{len(there)} subsets, {full} of them at the cap of {most}; the paper '
        f'names {len(members)} subsets')
    lines.append(f'tier {tier} by subset: ' + (', '.join(
        f'{name} {by_name[name]}' for name in there) or 'none'))
    if missing := [name for name in members if name not in by_name]:
      lines.append(f'tier {tier}, not there: {", ".join(missing)}')
  lines.append('by source: ' + ', '.join(
      f'{source} {count} of {len(names[source])} subsets'
      for source, count in by_source.items())
      + f'; the paper has {PAPER_SUBSETS} subsets of Vero-600k, and the others '
      'of MMFineReason')
  lines.append(f'in all: {sum(by_name.values())} questions; the paper has '
               f'about {PAPER}')
  return tuple(lines)
