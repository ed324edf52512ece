"""Rotary fields of a hub config.json, old and new, and back.

transformers 5 writes `rope_parameters`; earlier versions wrote `rope_theta` and
`rope_scaling`. If a file has both, `rope_scaling` counts, as in transformers.
"""

from typing import Any, NamedTuple

from zppo_jax.models import rope

MROPE = ('mrope_section', 'mrope_interleaved')
_LLAMA3 = ('factor', 'low_freq_factor', 'high_freq_factor',
           'original_max_position_embeddings')
_ORIGINAL = _LLAMA3[3]
_YARN = ('factor', _ORIGINAL, 'beta_fast', 'beta_slow', 'attention_factor',
         'truncate', 'mscale', 'mscale_all_dim')
# The fields of each type; fields of another type have no effect.
_FIELDS = {'default': (), 'llama3': _LLAMA3, 'yarn': _YARN,
           'linear': ('factor',)}
_NO_EFFECT = ('finetuned', _ORIGINAL)
_NEEDED = {'llama3': _LLAMA3[:3], 'linear': ('factor',)}
_REASONS = {
    'dynamic': ': it changes the frequencies with the length of a sequence, '
               'and keys in a cache were turned by the old ones',
    'longrope': ': it has other frequencies for long sequences than for short '
                'ones, and keys in a cache were turned by one of the two'}


class Rope(NamedTuple):
  """The rotary fields of a config.json.

  Attributes:
    theta: the base.
    llama3: DecoderConfig.rope_llama3.
    yarn: DecoderConfig.rope_yarn.
    linear: DecoderConfig.rope_linear.
    share: the share of the dimensions of a head that is rotated.
    other: fields that this file does not use, e.g. those of mRoPE.
    ignored: fields that have no effect on this type.
  """
  theta: float
  llama3: tuple[float, ...]
  yarn: tuple[float, ...]
  linear: float
  share: float
  other: dict[str, Any]
  ignored: tuple[str, ...]

  @property
  def fields(self) -> dict:
    """The rotary fields that the config of every family has."""
    return {'rope_theta': self.theta, 'rope_yarn': self.yarn,
            'rope_linear': self.linear}

  def positions(self, hub: dict, given: int) -> int:
    """The longest sequence, which for YaRN is that after the scaling."""
    return max(given, int(self.yarn[0] * self.yarn[1])) if self.yarn else given


def _found(hub: dict, default: float) -> tuple[float, dict]:
  """(base, the other fields)."""
  new, old = (dict(hub.get(name) or {})
              for name in ('rope_parameters', 'rope_scaling'))
  stated = [(f'{name}.rope_theta', d['rope_theta'])
            for name, d in (('rope_scaling', old), ('rope_parameters', new))
            if d.get('rope_theta') is not None]
  if hub.get('rope_theta') is not None:
    stated.append(('rope_theta', hub['rope_theta']))
  thetas = {float(theta) for _, theta in stated}
  if len(thetas) > 1:
    raise ValueError('config.json: ' + ', '.join(
        f'{name} is {float(theta)}' for name, theta in reversed(stated))
        + '; they must be the same')
  if old and new and {n for n, _ in stated} == {'rope_parameters.rope_theta'}:
    raise ValueError(
        'config.json: rope_scaling and rope_parameters are both there, and '
        'only the second has rope_theta; transformers would read the first '
        'and take another base. Keep one of them')
  scaling = old or new
  scaling.pop('rope_theta', None)
  return (thetas.pop() if thetas else default), scaling


def _number(scaling: dict, kind: str, name: str, default=None, least=0.0):
  value = scaling.get(name)
  value = default if value is None else value
  if type(value) not in (int, float) or not value >= least or value <= 0:
    raise ValueError(f'config.json: {name} of rope_type {kind!r} is {value!r}; '
                     f'allowed: a number {f">= {least:g}" if least else "> 0"}')
  return float(value)


def _yarn(scaling: dict, hub: dict) -> tuple[float, ...]:
  positions = hub.get('max_position_embeddings')
  if scaling.keys().isdisjoint(('factor', _ORIGINAL)):
    raise ValueError("config.json: rope_type is 'yarn' and neither factor nor "
                     f'{_ORIGINAL} is there; one of them is needed')
  number = lambda *args, **more: _number(scaling, 'yarn', *args, **more)
  original = number(_ORIGINAL, hub.get(_ORIGINAL) or positions)
  factor = number('factor', positions and positions / original, least=1.0)
  by = [scaling.get(name) for name in ('mscale', 'mscale_all_dim')]
  attention = (rope.mscale(factor, by[0]) / rope.mscale(factor, by[1])
               if all(by) else rope.mscale(factor))
  truncate = scaling.get('truncate')
  return tuple(rope.Yarn(
      factor, original, number('beta_fast', 32), number('beta_slow', 1),
      number('attention_factor', attention),
      float(True if truncate is None else bool(truncate))))


def from_hub(hub: dict, *, default: float = 10000.0, share: float = 1.0,
             other: tuple[str, ...] = ()) -> Rope:
  """Reads a config.json.

  Args:
    hub: config.json, or its part with the decoder.
    default: the base if the file has none.
    share: the `partial_rotary_factor` if the file has none.
    other: further fields, which the caller reads itself.

  Raises:
    ValueError: for another type of scaling, for an unknown or missing field of
      it, or for old and new fields that disagree.
  """
  theta, scaling = _found(hub, default)
  kind = scaling.pop('rope_type', scaling.pop('type', 'default')) or 'default'
  scaling.pop('type', None)
  outer = hub.get('partial_rotary_factor')
  inner = scaling.pop('partial_rotary_factor', None)
  if None not in (outer, inner) and outer != inner:
    raise ValueError(f'config.json: partial_rotary_factor is {outer}; '
                     f'rope_parameters say {inner}')
  share = next((float(x) for x in (inner, outer) if x is not None), share)
  if kind not in _FIELDS:
    raise ValueError(
        f'config.json: rope_type is {kind!r}{_REASONS.get(kind, "")}; '
        f'allowed: {", ".join(map(repr, _FIELDS))}')
  others = {name: scaling.pop(name) for name in other if name in scaling}
  scaling = {name: x for name, x in scaling.items() if x is not None}
  extra = sorted(scaling.keys() - set(_FIELDS[kind]))
  unknown = [n for n in extra if kind != 'default' and n not in _NO_EFFECT]
  nested = [n for n in extra if isinstance(scaling[n], dict)]
  missing = set(_NEEDED.get(kind, ())) - scaling.keys()
  if unknown or nested or missing:
    raise ValueError(
        f'config.json: rope_parameters of type {kind!r} have the fields '
        f'{sorted(scaling)}; allowed: exactly {sorted(_FIELDS[kind])}')
  llama3 = ()
  if kind == 'llama3':
    scaling.setdefault(_ORIGINAL, hub.get(_ORIGINAL)
                       or hub.get('max_position_embeddings'))
    llama3 = tuple(_number(scaling, kind, name) for name in _LLAMA3)
  return Rope(
      theta, llama3, _yarn(scaling, hub) if kind == 'yarn' else (),
      _number(scaling, kind, 'factor') if kind == 'linear' else 1.0,
      share, others, tuple(extra))


def ignored(hub: dict) -> list[str]:
  """A sentence for each field of a config.json that has no effect."""
  part = hub.get('text_config') or hub
  scaling = part.get('rope_scaling') or part.get('rope_parameters') or {}
  return [f'config.json: {name} = {scaling[name]!r} of the rotary fields has '
          f'no effect with rope_type {scaling.get("rope_type", "default")!r}'
          for name in from_hub(part, other=MROPE).ignored]


def to_hub(c) -> dict:
  """The `rope_parameters` of a config, without a share or axes."""
  kind, more = 'default', {}
  if getattr(c, 'rope_llama3', ()):
    kind, more = 'llama3', dict(zip(_LLAMA3, c.rope_llama3, strict=True))
  elif c.rope_yarn:
    kind, more = 'yarn', dict(zip(_YARN, c.rope_yarn))  # noqa: B905
    more['truncate'] = bool(more['truncate'])
  elif c.rope_linear != 1:
    kind, more = 'linear', {'factor': c.rope_linear}
  if _ORIGINAL in more:
    more[_ORIGINAL] = int(more[_ORIGINAL])
  return {'rope_type': kind, 'rope_theta': c.rope_theta, **more}
