"""Sets of videos in their published schema, as image_sets.py.

A video is a folder of frames; the frames of most are taken twice a second.
"""

from collections.abc import Callable

from tests.data.published.forms import IMAGE, TEXTS, File, frames, image, shared

_SRT = '''1
00:00:00,000 --> 00:00:00,400
<font color="#fff">Good <i>morning</i>.</font>

2
00:00:00,600 --> 00:00:00,900
Nobody sees this.

3
00:00:01,000 --> 00:00:02,000
We
begin.
'''


def mmvu(n):
  """A JSON array; a video is an address on the hub."""
  def row(i):
    choice = i % 2 == 0
    return dict(
        id=f'validation_{i}', youtube_url='https://x.invalid',
        video='https://huggingface.co/datasets/yale-nlp/MMVU/resolve/main/'
              f'videos/Art/{i}.mp4',
        question_type='multiple-choice' if choice else 'open-ended',
        question=f'What does hand {i} do?',
        choices={'A': 'O', 'B': 'A', 'C': 'B', 'D': 'AB', 'E': ''} if choice
        else {x: '' for x in 'ABCDE'},
        answer='B' if choice else 'glazing',
        metadata={'subject': 'Art', 'textbook': 'x', 'rationale': 'y',
                  'knowledge': ['z']})
  out = {'validation.json': File([row(i) for i in range(n)])}
  for i in range(n):
    out |= frames(f'videos/Art/{i}', 3, 10 * i)
  return out


def mvbench(n):
  """A JSON array a task; some ask about segments; names repeat."""
  out = {}
  tasks = ('action_sequence', 'object_shuffle', 'moving_count')
  for k, task in enumerate(tasks):
    out[f'json/{task}.json'] = File([dict(
        video='a.mp4', question=f'What comes {i}th in {task}?',
        candidates=['B', 'A', 'one'][:3 - k % 2], answer='A',
        **(dict(start=0.5, end=1.6 + i) if k == 0 else {}))
        for i in range(shared(n, 3))])
    out |= frames(f'{task}/a', 5, 60 * k)
  out['frames/moving_count/a/fps.txt'] = File(words='3\n')
  return out


def video_mme(n):
  """Options have their letters; one video has no subtitles."""
  out = {'videomme/test-00000-of-00001.parquet': File([dict(
      video_id=f'{i // 3:03d}', duration=('short', 'medium', 'long')[i % 3],
      domain='x', sub_category='y', url='https://x.invalid',
      videoID=f'v{i // 2}', question_id=f'{i // 3:03d}-{i % 3 + 1}',
      task_type='z', question=f'Who speaks {i}th?', answer='B',
      options=['A. Ada.', 'B. Bea.', 'C. Cy.', 'D. Di.'])
      for i in range(n)], {'options': TEXTS}),
      'subtitle/v0.srt': File(words=_SRT)}
  for video in range(-(-n // 2)):
    out |= frames(f'v{video}', 3, 20 * video)
  return out


def video_mmmu(n):
  """A video has a question in each of three tracks, all of one id."""
  out = {}
  count = shared(n, 3)
  for k, track in enumerate(('Perception', 'Comprehension', 'Adaptation')):
    rows = [dict(
        id=f'dev_Art_{i}', link_selected='x', qa_type='y',
        question=f'{track} {i}: which method?' + ' <image 1>' * (k == 2),
        question_type='multiple-choice' if k < 2 else 'open',
        options=(['A. one', 'B. two', 'C. ten'] if k == 0 else
                 ['one', 'two', 'ten'] if k == 1 else []),
        answer='B' if k < 2 else "['0.5', '1/2']",
        **({'image': image(i)} if k == 2 else {})) for i in range(count)]
    out[f'{track}/test-00000-of-00001.parquet'] = File(
        rows, {'options': TEXTS, 'image': IMAGE})
  for i in range(count):
    out |= frames(f'dev_Art_{i}', 3, 30 * i)
  return out


SETS: dict[str, Callable[[int], dict[str, File]]] = {
    'mmvu': mmvu, 'mvbench': mvbench, 'video_mme': video_mme,
    'video_mme_subtitles': video_mme, 'video_mmmu': video_mmmu}
