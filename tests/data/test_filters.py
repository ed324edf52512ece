"""What each filter leaves out, and what is counted."""

import pytest
from PIL import Image

from zppo_jax.chat import images
from zppo_jax.data import filters, tiers
from zppo_jax.data.filters import Candidate
from zppo_jax.records import Clip


def picture(width, height, shade=0):
  return images.picture(Image.new('L', (width, height), shade))


def candidate(name, source='a', subset='', characters=10, answer=2, rate=None,
              text=None, shown=()):
  return Candidate(source, 0, name, subset, characters, answer, rate,
                   filters.text_hash(text or name), lambda: shown)


def left(name, value, *found):
  counts = {}
  kept = filters.apply(found, {name: value}, counts)
  assert sum(counts[name].values()) == len(found) - len(kept)
  return [c.id for c in kept]


@pytest.mark.parametrize(('name', 'value', 'field'), [
    ('prompt_characters', 100, 'characters'),
    ('answer_characters', 100, 'answer'), ('pass_rate', 100, 'rate')])
def test_bounds_are_inclusive(name, value, field):
  found = [candidate(str(x), **{field: x}) for x in (99, 100, 101)]
  assert left(name, value, *found) == ['99', '100']


def test_a_pass_rate_that_is_unknown_stays():
  assert left('pass_rate', 0.5, candidate('a'),
              candidate('b', rate=0.75)) == ['a']


def test_the_shorter_side_of_every_image_and_frame():
  clip = Clip((picture(200, 200), picture(200, 99)), 1.0)
  assert left('image_side', 100, candidate('text'),
              candidate('exact', shown=(picture(100, 300),)),
              candidate('low', shown=(picture(300, 99),)),
              candidate('second', shown=(picture(100, 100), picture(99, 99))),
              candidate('clip', shown=(clip,))) == ['text', 'exact']


def test_duplicates_have_one_text_and_the_same_images():
  one, other = picture(4, 4), picture(4, 4, 9)
  assert left(
      'duplicates', True,
      candidate('first', text='How  many?', shown=(one,)),
      candidate('same', 'b', text=' how many? ', shown=(one,)),
      candidate('image', 'b', text='How many?', shown=(other,)),
      candidate('image again', 'b', text='HOW MANY?', shown=(other,)),
      candidate('text', 'b', text='How much?', shown=(one,)),
  ) == ['first', 'image', 'text']


def test_images_are_read_only_where_texts_are_equal():
  def never():
    raise AssertionError('read')
  found = [Candidate('a', 0, name, '', 1, 1, None, filters.text_hash(name),
                     never) for name in 'ab']
  assert filters.duplicates(found, True) == found


def test_a_subset_of_several_sources_stays_with_the_first():
  assert left('subset_duplicates', True,
              candidate('v', 'vero', 'stem-ai2d_merged'),
              candidate('m', 'mmfinereason', 'AI2D'),
              candidate('n', 'mmfinereason', 'MMR1')) == ['v', 'n']


@pytest.mark.parametrize(('name', 'canonical', 'cap'), [
    ('ai2d_merged', 'ai2d', 2800), ('stem-ai2d_merged', 'ai2d', 2800),
    ('CoSyn_400k_chart', 'cosynchart', 2800), ('Geometry3K', 'geo3k', 2800),
    ('chart_ocr-arxivqa_formatted', 'arxivqa', 2800),
    ('wemath20_standard', 'wemath', 2800), ('raven', 'raven', 1400),
    ('Zebra-CoT', 'zebracot', 1400), ('pixmo', 'pixmo', 1400),
    ('PixMo-Cap', 'pixmocap', 0)])
def test_tiers(name, canonical, cap):
  assert tiers.canonical(name) == canonical
  assert tiers.cap(name) == cap


def test_caps_draw_by_id_whatever_the_order():
  found = [candidate(f'{s}{i}', subset=s) for i in range(30) for s in 'xy']
  kept = left('subset_cap', 10, *found)
  assert sorted(kept) == sorted(left('subset_cap', 10, *found[::-1]))
  assert [sum(k.startswith(s) for k in kept) for s in 'xy'] == [10, 10]
  assert kept != [c.id for c in found[:20]]
  assert left('tiers', True, candidate('a', subset='raven'),
              candidate('b', subset='flickr30k')) == ['a']


def test_filters_go_in_the_tables_order_and_count_by_source():
  counts = {}
  found = [candidate('a', text='t'), candidate('b', 'b', text='t'),
           candidate('c', 'b', answer=600)]
  kept = filters.apply(
      found, {'duplicates': True, 'answer_characters': 512}, counts)
  assert [c.id for c in kept] == ['a']
  assert counts == {'answer_characters': {'a': 0, 'b': 1},
                    'duplicates': {'a': 0, 'b': 1}}
  assert list(counts) == ['answer_characters', 'duplicates']


def test_unknown_filters_are_refused():
  with pytest.raises(KeyError, match="x.filters: 'length'; known: prompt_"):
    filters.check(['length'], 'x.filters')
