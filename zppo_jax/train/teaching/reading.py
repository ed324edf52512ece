"""What a run's teacher reads besides the student's prompt (distil.context)."""

from typing import Any

from zppo_jax.algorithms.distillation import Distil
from zppo_jax.algorithms.privileged import contexts, lenders, material
from zppo_jax.algorithms.privileged.contexts import Material
from zppo_jax.chat.wording import Chat
from zppo_jax.learner.packing import LessonTable


def material_of(c: Any, distil: Distil) -> Material:
  """What contexts are made of besides questions and groups.

  Raises:
    KeyError, ValueError, FileNotFoundError: see material.read.
  """
  return Material(seed=c.seed, level=distil.context_level,
                  texts=material.read(c.distil.material))


def context(c: Any, distil: Distil, needs: frozenset[str],
            chat: Chat) -> Material | None:
  """What the teacher's contexts are made of; None for the context 'same'.

  Args:
    c: the config.
    distil: the row's settings.
    needs: what the row needs of the teacher, keys of distillation.NEEDS.
    chat: the student's chat.

  Raises:
    KeyError, ValueError, FileNotFoundError: see contexts.check,
      lenders.check_material and material.read; also for a row without a teacher
      that reads.
  """
  if distil.context == 'same':
    return None
  if not needs:
    raise ValueError(
        f'distil.context is {distil.context!r}; in method {c.method!r} no '
        "teacher reads the student's tokens, allowed: 'same'")
  made = material_of(c, distil)
  contexts.check(distil.context, distil.context_level, chat, made)
  lenders.check_material(distil.context, distil.context_of, made)
  return made


def table(c: Any, distil: Distil | None, made: Material | None,
          stored_need: str) -> LessonTable | None:
  """The sizes of lessons inside the update; None without them.

  Args:
    c: the config.
    distil: the row's settings.
    made: the result of `context`.
    stored_need: what is stored per rollout batch, '' for a teacher inside the
      update.
  """
  if made is None or stored_need:
    return None
  assert distil is not None  # a row with a context distils
  return LessonTable(
      of_question=contexts.CONTEXTS[distil.context].of_question,
      prompt_buckets=tuple(c.shapes.prompt_buckets),
      row_buckets=tuple(c.shapes.row_buckets),
      patch_buckets=tuple(c.shapes.patch_buckets))
