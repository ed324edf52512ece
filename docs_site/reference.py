"""The reference of the code: a page per folder that a user imports from."""

import pathlib
import pkgutil

ROOT = pathlib.Path(__file__).resolve().parents[1]
# (page, what it is for, modules)
PAGES = (
    ('records', 'The host records that cross a file, and the axis key.',
     ('records', 'arrays')),
    ('tasks', 'Questions, and who grades them (docs/your_task.md).',
     ('tasks',)),
    ('configs', 'Configs by name, and what every field is: `base` holds all '
     'fields with their comments.', ('configs', 'configs.base')),
    ('data', 'Files as pools of questions (docs/data.md).', ('data',)),
    ('verdicts', 'What makes an answer right (docs/verdicts.md).',
     ('verdicts', 'verdicts.kinds')),
    ('objectives', 'Arrays in, arrays out: advantages, losses, divergences.',
     ('objectives',)),
    ('algorithms', 'Who is asked what: methods, reformulations, the buffer.',
     ('algorithms', 'algorithms.privileged', 'algorithms.credit')),
    ('teachers', 'Who answers hard questions (docs/teachers.md).',
     ('teachers',)),
    ('models', 'Networks alone.', ('models',)),
    ('weights', 'Weights on disk (docs/models.md).', ('weights',)),
    ('runs', 'What a run leaves (docs/metrics.md).', ('runs',)),
    ('report', 'Runs and studies as a page, and as tables (docs/report.md).',
     ('report', 'study', 'statistics')),
    ('randomness', 'Draws named by seed, step, purpose and question.',
     ('randomness', 'allowed')),
)


def _modules(name: str) -> list[str]:
  """A module; of a folder also the modules in it, without its subfolders."""
  folder = ROOT / 'zppo_jax' / pathlib.Path(*name.split('.'))
  out = [f'zppo_jax.{name}']
  if folder.is_dir():
    out += [f'zppo_jax.{name}.{m.name}'
            for m in pkgutil.iter_modules([str(folder)])
            if not m.ispkg and not m.name.startswith('_')]
  return out


def pages() -> dict[str, str]:
  """Path in the site -> Markdown."""
  out = {'reference/index.md': '# Reference\n\n' + '\n'.join(
      f'- [{name}]({name}.md): {what}' for name, what, _ in PAGES) + '\n'}
  for name, what, modules in PAGES:
    if name == 'configs':  # configs/ lies beside the package in a clone
      text = ('::: zppo_jax.configs\n\n## configs/base.py\n\n```python\n'
              + (ROOT / 'configs' / 'base.py').read_text() + '```\n')
    else:
      text = '\n\n'.join(f'::: {m}' for of in modules for m in _modules(of))
    out[f'reference/{name}.md'] = f'# {name}\n\n{what}\n\n{text}\n'
  return out
