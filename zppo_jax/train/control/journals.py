"""The journals of a run: rollouts, answers of a teacher, verdicts."""

import contextlib
import dataclasses

from zppo_jax.chat import hub_chat
from zppo_jax.devices import disk, hosts
from zppo_jax.endpoints import client
from zppo_jax.rollout import journal as rollouts
from zppo_jax.rollout.journal import RolloutJournal
from zppo_jax.runs import same_config
from zppo_jax.runs.workdir import Workdir
from zppo_jax.teachers import panel
from zppo_jax.teachers.ahead import AheadTeacher
from zppo_jax.teachers.endpoint import EndpointTeacher
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.teachers.journal import CachedTeacher
from zppo_jax.train.run import Run
from zppo_jax.verdicts import verifier


def _kept(run: Run, config, out: Workdir) -> Run:
  """The run whose samplers keep what they draw, and stop for a notice."""
  journal = None
  if run.checkpoint.journal:
    journal = RolloutJournal(
        out.path / rollouts.FOLDER,
        disk.digest([same_config.identity(config), hub_chat.record(run.chat)]),
        out.note)
  run.notice.heeded = journal is not None
  # Verdicts of several processes come from one call of all of them.
  overlapped = config.overlap and hosts.count() == 1
  heeding = lambda sampler, journal: dataclasses.replace(
      sampler, journal=journal, between=run.notice.check,
      overlapped=overlapped)
  def of_teacher(teacher: InProcessTeacher) -> InProcessTeacher:
    return dataclasses.replace(
        teacher, answers=heeding(teacher.answers, journal),
        summaries=heeding(teacher.summaries, journal),
        hints=heeding(teacher.hints, journal))
  return dataclasses.replace(
      run, journal=journal, sampler=heeding(run.sampler, journal),
      greedy=heeding(run.greedy, None),
      teacher=panel.with_in_process(run.teacher, of_teacher))


def with_journals(run: Run, config, out: Workdir, add, say) -> Run:
  """The run with the journals of its directory, which `add` closes. If its
  teacher may answer differently a second time, a journal on disk keeps the
  answers."""
  run = _kept(run, config, out)
  if run.teacher is not None and not run.teacher.capabilities.repeatable:
    teacher, asked = config.teacher, run.teacher
    if isinstance(asked, EndpointTeacher) and run.sampler.overlapped:
      session = client.Session(asked.endpoint)
      add(session.close)
      asked = dataclasses.replace(asked, session=session)
    cached = CachedTeacher.open(
        asked, out.path / 'teacher.jsonl', run.sampler.chat,
        run.sampler.grader, kind=teacher.kind,
        name='/'.join((teacher.kind, teacher.endpoint.model,
                       teacher.endpoint.scores)))
    run = dataclasses.replace(run, teacher=(
        # A member of this process shares the devices with the student.
        AheadTeacher(cached) if run.sampler.overlapped
        and not panel.in_process_of(cached) else cached))
  journal = contextlib.ExitStack()
  add(journal.close)
  verdicts = journal.enter_context(
      verifier.journalled(run.verifier, out.verdicts))
  if verdicts.outdated:
    say(verdicts.note(out.verdicts))
  return run
