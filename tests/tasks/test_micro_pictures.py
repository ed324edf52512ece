"""The embedded world in handwriting."""

import jax
import numpy as np
import pytest

from tests.builders import rendered
from zppo_jax import assets, tasks
from zppo_jax.records import Clip, Picture, PromptKind
from zppo_jax.tasks import micro, micro_corpus, micro_pictures
from zppo_jax.weights import pretrained

pytest.importorskip('sklearn')
CHAT = micro_pictures.CHAT


def digits_of(question):
  """The digits that a question's media show, found by their pixels."""
  shown = {picture: digit for digit in range(10) for unseen in (False, True)
           for picture in micro_pictures.scans(digit, unseen)}
  media = question.media
  if isinstance(media[0], Clip):
    assert media[0].frames[::2] == media[0].frames[1::2]
    media = media[0].frames[::2]
  return ''.join(str(shown[picture]) for picture in media)


def test_scans_of_training_and_evaluation_are_apart():
  """Every digit has scans of both; together they are all of them."""
  seen = {d: set(micro_pictures.scans(d, False)) for d in range(10)}
  unseen = {d: set(micro_pictures.scans(d, True)) for d in range(10)}
  for digit in range(10):
    assert seen[digit] and unseen[digit]
    assert not seen[digit] & unseen[digit]
  assert sum(len(x) for x in unseen.values()) == pytest.approx(
      micro_pictures.NUM_UNSEEN, abs=5)  # a few scans are equal


def test_pictures_show_the_digits_of_the_text_world():
  """Same questions, answers and splits; the digit is no longer in the text,
  but in the picture."""
  for ours, theirs in zip(micro_pictures.pool(60, 0.5), micro.pool(60, 0.5),
                          strict=True):
    family, ops, digits = theirs.id.split('/')[1:]
    assert (ours.answer, ours.split) == (theirs.answer, theirs.split)
    assert digits_of(ours) == digits
    assert not set(ours.text) & set('0123456789')
    assert all(isinstance(m, Picture) for m in ours.media)
    known = [p for d in range(10) for p in micro_pictures.scans(d, False)]
    assert set(ours.media) <= set(known)


def test_the_pool_of_clips_asks_the_same():
  """One clip per question, of digits that training may show; hints and
  solutions stay."""
  ours = tasks.get('micro_clips').pool(
      size=20, hard_share=.5, hints=True, worked=True)
  theirs = micro_pictures.pool(20, 0.5, hints=True, worked=True)
  known = {p for d in range(10) for p in micro_pictures.scans(d, False)}
  for clip, pictures in zip(ours, theirs, strict=True):
    (shown,) = clip.media
    assert isinstance(shown, Clip) and known.issuperset(shown.frames)
    assert len(shown.frames) == 2 * len(pictures.media)
    assert (clip.text, clip.answer, clip.hint, clip.responses) == (
        pictures.text, pictures.answer, pictures.hint, pictures.responses)
    assert clip.id.startswith('clip/') and clip.hint and clip.responses


@pytest.mark.parametrize(('split', 'of'), micro_pictures.TEXTS.items())
def test_questions_in_text_are_those_of_the_text_world(split, of):
  """Under ids of their own, so that their draws are not those in pictures."""
  ours = micro_pictures.evaluation(split, 20)
  theirs = micro.evaluation(of, 20)
  in_pictures = micro_pictures.evaluation(of, 20)
  assert [(q.id, q.text, q.answer) for q in ours] == [
      (q.id, q.text, q.answer) for q in theirs]
  assert {q.split for q in ours} == {split} and not any(q.media for q in ours)
  assert not {q.id for q in ours} & {q.id for q in in_pictures}
  assert [q.answer for q in ours] == [q.answer for q in in_pictures]


def test_a_corpus_of_both_has_its_share_of_text():
  """800 exercises: those in text have digits and no media."""
  mix = micro_corpus.Mixture(
      belief=micro_corpus.truth(), families='CVL', max_steps=3,
      hard_candidates=0.7, max_candidates=8, terse=False,
      form='pictures_and_text')
  draw = np.random.default_rng(0)
  tasks_ = [micro_corpus.draw_task(draw, micro.OPERATORS, mix)
            for _ in range(800)]
  in_text = [not task.media for task in tasks_]
  assert np.mean(in_text) == pytest.approx(micro_corpus.TEXT_SHARE, abs=0.05)
  assert all(bool(set(task.text) & set('0123456789')) == alone
             for task, alone in zip(tasks_, in_text, strict=True))


@pytest.mark.parametrize('split', [
    s for s in micro_pictures.EVAL_SPLITS if s not in micro_pictures.TEXTS])
def test_evaluation_is_in_unseen_handwriting(split):
  unseen = {p for d in range(10) for p in micro_pictures.scans(d, True)}
  of_text = micro.evaluation(micro_pictures.CLIPS.get(split, split), 20)
  for ours, theirs in zip(micro_pictures.evaluation(split, 20), of_text,
                          strict=True):
    assert ours.split == split and ours.answer == theirs.answer
    clip = isinstance(ours.media[0], Clip)
    assert clip == split.endswith('_clip')
    frames = ours.media[0].frames if clip else ours.media
    assert set(frames) <= unseen
    assert digits_of(ours) == theirs.id.split('/')[-1]


def test_an_unknown_split_is_named():
  with pytest.raises(KeyError, match="'hard_film'.*hard_clip"):
    micro_pictures.evaluation('hard_film', 1)


def test_prompts_hold_one_placeholder_a_digit():
  """In plain prompts and candidate prompts, of pictures and of clips."""
  for split, id in (('hard_list', micro_pictures.TOWER.image_id),
                    ('hard_clip', micro_pictures.TOWER.video_id)):
    question, = micro_pictures.evaluation(split, 1)
    for encoded in (
        CHAT.plain(question.text, question.media),
        rendered(CHAT, PromptKind.BCQ, question.text, ['A 1', 'A 2'], [],
                          question.media)):
      assert encoded.removed == 0
      assert encoded.tokens.count(id) == 3
      assert len(encoded.media.patches_IC) == 12  # 4 patches are a digit


def test_exercises_in_pictures_never_use_scans_of_evaluation():
  mix = micro_corpus.Mixture(
      belief=micro_corpus.truth(), families='CVL', max_steps=3,
      hard_candidates=0.5, max_candidates=3, terse=False, form='pictures')
  rng, seen = np.random.default_rng(0), {False: 0, True: 0}
  unseen = {p for d in range(10) for p in micro_pictures.scans(d, True)}
  for _ in range(200):
    task = micro_corpus.draw_task(rng, micro.OPERATORS, mix)
    clip = isinstance(task.media[0], Clip)
    seen[clip] += 1
    assert not set(task.media[0].frames if clip else task.media) & unseen
  assert seen[False] > seen[True] > 20


@pytest.mark.parametrize('role', ['seeing_student', 'seeing_teacher'])
def test_the_packaged_models_have_the_chats_tower(role):
  found = pretrained.load(f'micro/{role}')
  assert found.model.config.vision == micro_pictures.TOWER
  assert found.model.config.vocab_size == CHAT.codec.vocab_size
  assert f'micro/{role}' in assets.names()
  assert sum(x.size for x in jax.tree.leaves(found.params)) < 300_000
