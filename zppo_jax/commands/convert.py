"""`zppo import` and `zppo export`: hub checkpoints to our files and back."""

from zppo_jax.chat import segments
from zppo_jax.weights import hub_checkpoint, peft, pretrained, safetensors_file


def to_ours(source: str, to: str) -> None:
  """A hub folder or GGUF file to one safetensors file of ours (float32).

  Raises:
    ValueError, FileNotFoundError: see pretrained.load; also for a name
      without .safetensors.
  """
  if not to.endswith('.safetensors'):
    raise ValueError(f'--to is {to!r}; it must end in .safetensors')
  if not hub_checkpoint.is_hub(source):
    raise FileNotFoundError(f'--from is {source!r}; it must be a checkpoint '
                            'folder of the hub or a .gguf file'
                            f'{pretrained.hint(source)}')
  loaded = pretrained.load(source)
  safetensors_file.save(to, loaded.params, loaded.description)
  for note in loaded.notes:
    print(note)
  print(f'{loaded.model.family} written to {to}; its tokenizer stays in '
        f'{loaded.tokenizer or "no place: there is none"}')


def to_peft(checkpoint: str, to: str, dtype: str) -> None:
  """The adapters of a run to a folder that peft loads; see peft.save."""
  files = peft.save(to, checkpoint, dtype)
  print(f'adapters written to {to}: {", ".join(files)}')


def to_hub(checkpoint: str, to: str, tokenizer: str | None,
           dtype: str) -> None:
  """Weights of ours, or of a run, to a folder that transformers loads.

  Args:
    checkpoint: anything that pretrained.load takes.
    to: a new folder.
    tokenizer: folder or GGUF file of the tokenizer; None takes the one that
      the weights came with, if any.
    dtype: 'float32' or 'bfloat16'.
  """
  loaded = pretrained.load(checkpoint)
  loaded = loaded._replace(tokenizer=tokenizer or loaded.tokenizer)
  # The folder declares every token at which our sampler stops, so that
  # others stop there too.
  try:
    chat = pretrained.chat(loaded)
    ends = segments.end_ids(chat.codec) if chat else ()
  except ValueError as e:  # it cannot sample, but it is a checkpoint
    print(f'no end token is added to those of the tokenizer: {e}')
    ends = ()
  files = hub_checkpoint.save(
      to, loaded.params, loaded.model, dtype=dtype,
      tokenizer=loaded.tokenizer or None, chat_template=loaded.chat_template,
      end_ids=ends)
  print(f'{loaded.model.family} written to {to}: {", ".join(files)}')
