"""The judge of a run, behind an OpenAI-compatible endpoint (`config.judge`)."""

import functools
from collections.abc import Sequence

from zppo_jax import allowed
from zppo_jax.devices import hosts
from zppo_jax.endpoints import client
from zppo_jax.endpoints.client import Endpoint, EndpointError
from zppo_jax.verdicts import verifier
from zppo_jax.verdicts.judge import DECODING, Ask


def _responses(of: Endpoint, budget_s: float,
               requests: Sequence[list[dict]]) -> list[str | Exception]:
  """The judge's text for each request's messages, or why none came."""
  replies = client.ask_all(of, [
      client.chat_call(messages, temperature=DECODING.temperature,
                       max_tokens=DECODING.max_tokens)
      for messages in requests], budget_s)
  return [reply.results[0].text if reply.cause is None else EndpointError(
      reply.cause, f'{reply.cause.name.lower()}: {reply.error}')
      for reply in replies]


def verifier_of(config, needed: str) -> verifier.Verifier:
  """The verifier of a run or an evaluation, with its own judge.

  Args, Raises: as `judge_of`.
  """
  return verifier.of_run(judge_of(config, needed))


def connect(config, needed: str) -> None:
  """Gives the process's own verifier a judge, for gradings outside of a run.

  Args, Raises: as `judge_of`. After an error the verifier has no judge.
  """
  verifier.shared().ask = None
  verifier.shared().ask = judge_of(config, needed)


def judge_of(config, needed: str) -> Ask | None:
  """The judge that a config names; None without a url.

  Args:
    config: `config.judge`: budget_s, the seconds of one grading in all, and
      the fields of client.Endpoint.
    needed: the id of a question of kinds.JUDGED; '' if there is none.

  Raises:
    EndpointError: if the judge cannot be reached or refuses the key.
    ValueError: for a field out of its range; for a model that the endpoint
      does not serve; for a question that needs a judge where the config names
      none.
  """
  fields = config.to_dict()
  budget_s = fields.pop('budget_s')
  if not fields['url']:
    if needed:
      raise ValueError(f"judge.url is ''; a judge grades question {needed!r} "
                       'by its kind, so that one is needed (docs/verdicts.md)')
    return None
  allowed.number('judge.budget_s', budget_s, '> 0')
  of = Endpoint(**fields)
  names = hosts.from_first(lambda: client.served(of, budget_s), 'the judge')
  if of.model not in names:
    raise ValueError(f'judge.model is {of.model!r}; {of.url} serves '
                     f'{client.listed(names, of.key())}')
  return functools.partial(_responses, client.share_of(of), budget_s)
