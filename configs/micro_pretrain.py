"""The embedded world's models, each from scratch in one command.

  zppo pretrain --config=configs/micro_pretrain.py:ROLE --to=FILE

ROLE is one of
  student          the default student, with deep misconceptions
  teacher          same architecture and style, every fact right
  terse_teacher    larger, answers with the values only
  shallow_student  no deep misconceptions; the no-separation control
  seeing_student, seeing_teacher
                   a tiny Qwen3.5 with a vision tower; questions show
                   handwritten digits (needs the extra "digits")
These commands made the files zppo_jax/assets/micro/ROLE.safetensors.
"""

import dataclasses

from ml_collections import ConfigDict

ROLES = ('student', 'teacher', 'terse_teacher', 'shallow_student',
         'seeing_student', 'seeing_teacher')


def see(c) -> None:
  """Replaces digits by pictures, and the model by one that sees them."""
  from zppo_jax.chat import micro_chat
  from zppo_jax.tasks import micro_pictures
  c.mixture.form = 'pictures'
  c.model = ConfigDict(dict(
      family='qwen3_5', vocab_size=micro_chat.SEEING_VOCAB_SIZE, width=64,
      num_layers=4, period=2, num_heads=4, num_kv_heads=2, head_dim=16,
      mlp_width=128, max_positions=256, delta_key_heads=4,
      delta_value_heads=4, delta_key_dim=16, delta_value_dim=16,
      rope_theta=10000.0, rotary_share=0.5, rope_sections=(2, 1, 1),
      tied=True, vision=dataclasses.asdict(micro_pictures.TOWER)))
  c.shapes.update(row_buckets=(32, 64, 120, 192), patch_buckets=(12,))


def get_config(role: str = 'student') -> ConfigDict:
  if role not in ROLES:
    raise ValueError(f'unknown role {role!r}; known: {", ".join(ROLES)}')
  c = ConfigDict()
  c.role = role
  c.seed = 0
  c.steps = 600

  c.model = ConfigDict(dict(
      family='decoder', vocab_size=40, width=64, num_layers=3, num_heads=4,
      num_kv_heads=2, head_dim=16, mlp_width=128, max_positions=256))

  # What a model believes (tasks/micro_corpus.py); 'truth' ignores the numbers.
  c.belief = ConfigDict(dict(
      kind='misconceived', medium_p=0.6, hard_p=0.3, deep_p=0.005,
      deep_share=0.44, misconception_share=0.8))
  c.mixture = ConfigDict(dict(
      families='CVL', max_steps=3, hard_candidates=0.7, max_candidates=8,
      terse=False, form='text'))
  # Rows per step, by exercise.
  c.rows = ConfigDict(dict(plain=128, bcq=64, ncq=16, compression=0,
                           context=0))

  c.optimizer = ConfigDict(dict(
      learning_rate=5e-3, b1=0.9, b2=0.98, eps=1e-8, weight_decay=0.01,
      clip_norm=1.0, state_dtype='float32', schedule='cosine'))
  c.mesh = ConfigDict(dict(data=1, fsdp=1, tensor=1, slices=1))
  c.shapes = ConfigDict(dict(
      row_buckets=(24, 56, 112, 176), patch_buckets=(), micro_tokens=1536,
      layout='padded', logprob_chunk=256))

  if role == 'shallow_student':
    c.belief.deep_share = 0.0
  if role.endswith('teacher'):
    c.belief.kind = 'truth'
    c.rows.update(plain=128, bcq=0, ncq=0, compression=48)
  if role == 'teacher':
    c.steps = 500
  if role == 'terse_teacher':
    c.mixture.terse = True
    c.model.update(width=96, num_layers=4, mlp_width=192)
  if role.startswith('seeing'):
    see(c)
  return c
