"""What the recipes of Uni-OPD share (2605.03677): Qwen3 on DeepMath and code.

Published (its launch script): 16 rollouts of 64 questions, one update; the
signal is log p_T - log p_S of each token, group margins are spread to 0.4,
right : wrong is 1 for mathematics and 1.2 for code, tokens with a difference of
10 nats or more are left out; clip 0.2, 0.28; no KL, no normaliser, the mean per
rollout; Adam (0.9, 0.98), learning rate 1e-6 after 5 steps of warm-up, weight
decay 0.1; temperature 1; prompts of 4,096 and responses of 16,384 tokens
without thinking; DeepMath of difficulty 6 and more (57,000 questions), code of
Eurus-2 (25,300); teachers behind servers that return log-probs of given tokens;
evaluation at temperature 1, 32 samples.

Ours: 50 steps, because the paper tells no stopping step and its plots end
there; no offline balance until data.balance names its rollouts and factors,
which are not published (docs/data.md); the mesh and the shapes. DeepMath's
questions of difficulty 6 and more are a folder that you filter. Code is graded
by a function of your own (`kind`), because this package runs no code of
answers; without it the recipe is for mathematics alone.

  --config=configs/uni_opd_4b.py         one teacher, DeepMath
  --config=configs/uni_opd_4b.py:multi   a teacher each for DeepMath and code
  --config=configs/uni_opd_vl.py         a model of text teaches one that sees
  --config=configs/uni_opd_vl.py:pictures   one that sees does, with pictures
"""

from ml_collections import ConfigDict

from zppo_jax.configs import base

NAMES = ('single', 'multi')
SEEING = ('cross', 'pictures')
_MATHS = dict(format='parquet', path='data/DeepMath-difficulty-6',
              mapping='deepmath')
_CODE = dict(format='parquet', path='data/Eurus-2-code',
             columns=dict(text='question', answer='tests'),
             kind='code_of_yours:score')


def _server(model: str) -> dict:
  """A teacher behind vLLM."""
  return dict(kind='endpoint', endpoint=dict(
      url='http://localhost:8000/v1', model=model, api='completions',
      scores='prompt_logprobs'))


def recipe(student: str, maths: str, code: str, name: str, devices: int):
  """The recipe for a student.

  Args:
    student: a folder of models/.
    maths, code: the teachers' names on their servers.
    name: one of NAMES; '' is the first.
    devices: of the mesh, along fsdp.

  Raises:
    KeyError: for another name.
  """
  if name not in ('', *NAMES):
    raise KeyError(f'unknown recipe {name!r}; known: {", ".join(NAMES)}')
  c = base.get_config()
  c.method = 'uni_opd'
  c.student.update(weights=f'models/{student}', thinking='off')
  c.data.update(task='files', fit='drop', repeat=True)
  c.data.pool.sources = dict(deepmath=_MATHS)
  c.teacher.update(_server(maths))
  if name == 'multi':
    c.data.pool.sources.code = _CODE
    c.teacher.kind = 'panel'
    c.teacher.panel.members = ConfigDict(dict(
        maths=_server(maths), code=_server(code)))
    c.teacher.panel.routes = ConfigDict(dict(deepmath='maths', code='code'))
    c.credit.balance = 'deepmath=1, code=1.2'
  c.steps = 50

  a, s = c.algorithm, c.shapes
  a.update(num_new=64, rollouts=16, updates=1, temperature=1.0, top_p=1.0,
           max_tokens=16384, teacher_max_tokens=16384, normaliser='none')
  a.clip.update(low=0.2, high=0.28)
  c.optimizer.update(learning_rate=1e-6, b1=0.9, b2=0.98, weight_decay=0.1,
                     warmup_steps=5)
  c.eval.sources.aime24 = dict(
      format='parquet', path='data/AIME24', kind='math',
      columns=dict(text='problem', answer='answer'))
  c.eval.update(every=10, size=30, splits=('aime24',))

  c.mesh.update(data=1, fsdp=devices, tensor=1)
  s.prompt_buckets = (1024, 4096)
  s.row_buckets = (8192, 20480)
  s.response_buckets = (4096, 8192, a.max_tokens)
  s.patch_buckets = ()
  s.slots = a.rollouts * devices
  s.group_buckets = (devices, 64)
  s.micro_tokens = max(s.prompt_buckets) + a.max_tokens
  return c


def seeing(student: str, text: str, pictures: str, name: str, devices: int):
  """The recipe for a student that sees.

  Published for questions with pictures: right rollouts are lifted until the
  margin is 0. Which margin is not published; the one of the definition is taken
  (the worst right rollout against the best wrong one).

  Args:
    student: a folder of models/.
    text: the teacher of text, on its server.
    pictures: the folder of models/ of the teacher that sees.
    name: one of SEEING; '' is the first.
    devices: of the mesh, along fsdp.

  Raises:
    KeyError: for another name.
  """
  if name not in ('', *SEEING):
    raise KeyError(f'unknown recipe {name!r}; known: {", ".join(SEEING)}')
  c = recipe(student, text, '', '', devices)
  c.student.thinking = 'default'
  if name != 'pictures':
    return c
  # Servers score text alone, so that this teacher lies beside the student.
  c.teacher.update(kind='in_process', weights=f'models/{pictures}')
  c.credit.update(margin='lift(0)', margin_kind='extreme')
  c.data.pool.sources = dict(openmm=dict(
      format='parquet', path='data/OpenMMReasoner-RL', kind='math',
      images='images', columns=dict(text='problem', answer='answer')))
  c.eval.sources = ConfigDict(dict(mmk12=dict(
      format='parquet', path='data/MMK12/test', kind='math', images='image',
      columns=dict(text='question', answer='answer'))))
  c.eval.splits = ('mmk12',)
  c.shapes.patch_buckets = (8192, 32768)  # four patches make a token
  c.shapes.prompt_buckets = (2048, 8192)
  c.shapes.row_buckets = (8192, 24576)
  c.shapes.micro_tokens = 8192 + c.algorithm.max_tokens
  return c
