"""The judge of a run, behind an OpenAI-compatible endpoint (`config.judge`)."""

import functools
from collections.abc import Sequence

from zppo_jax.endpoints import client
from zppo_jax.endpoints.client import Endpoint, EndpointError
from zppo_jax.verdicts import verifier
from zppo_jax.verdicts.judge import DECODING, Ask


def _ask(of: Endpoint, budget_s: float,
         asked: Sequence[list[dict]]) -> list[str | Exception]:
  """The judge's words for each of some messages, or why none came."""
  replies = client.ask_all(of, [
      client.chat_call(messages, temperature=DECODING.temperature,
                              max_tokens=DECODING.max_tokens)
      for messages in asked], budget_s)
  return [reply.results[0].text if reply.cause is None else EndpointError(
      reply.cause, f'{reply.cause.name.lower()}: {reply.error}')
      for reply in replies]


def verifier_of(config, needed: str) -> verifier.Verifier:
  """The verifier of a run or an evaluation, with its own judge.

  Args, Raises: as `judge_of`.
  """
  return verifier.of_run(judge_of(config, needed))


def appoint(config, needed: str) -> None:
  """Gives the process's own verifier a judge, for what belongs to no run.

  Args, Raises: as `judge_of`; it has none after an error.
  """
  verifier.shared().ask = None
  verifier.shared().ask = judge_of(config, needed)


def judge_of(config, needed: str) -> Ask | None:
  """The judge that a config names; None without a url.

  Args:
    config: `config.judge`: budget_s, the seconds of one grading in all, and
      the fields of client.Endpoint.
    needed: id of a question of kind 'judge', '' if there is none.

  Raises:
    EndpointError: if it cannot be reached or refuses the key.
    ValueError: for a field out of its range; for a model that is not served
      there; for a question that needs a judge where none is named.
  """
  fields = config.to_dict()
  budget_s = fields.pop('budget_s')
  if not fields['url']:
    if needed:
      raise ValueError(f"judge.url is ''; question {needed!r} is of kind "
                       "'judge', which needs one (docs/verdicts.md)")
    return None
  if not budget_s > 0:
    raise ValueError(f'judge.budget_s is {budget_s}; it must be > 0')
  of = Endpoint(**fields)
  known = client.served(of, budget_s)
  if of.model not in known:
    raise ValueError(f'judge.model is {of.model!r}; {of.url} serves '
                     f'{client.listed(known, of.key())}')
  return functools.partial(_ask, of, budget_s)
