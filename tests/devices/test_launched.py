"""Which process of a run this is."""

import pytest

from zppo_jax.devices import hosts, launched

_LAUNCHERS = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID',
              'TPU_PROCESS_ADDRESSES', 'TPU_WORKER_HOSTNAMES',
              'MEGASCALE_NUM_SLICES', 'SLURM_PROCID', 'SLURM_STEP_NODELIST',
              'SLURM_STEP_NUM_TASKS', 'SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE',
              'OMPI_MCA_orte_hnp_uri', 'JOB_COMPLETION_INDEX')


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
  for name in _LAUNCHERS:
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')


@pytest.mark.parametrize(('given', 'count'), [
    ({}, 1),
    ({'SLURM_PROCID': '1', 'SLURM_STEP_NODELIST': 'a[1-2]',
      'SLURM_NTASKS': '4', 'SLURM_STEP_NUM_TASKS': '2'}, 2),
    # A shell inside of an allocation is one task of it.
    ({'SLURM_PROCID': '0', 'SLURM_STEP_NODELIST': 'a1', 'SLURM_NTASKS': '4',
      'SLURM_STEP_NUM_TASKS': '1'}, 1),
    ({'SLURM_NTASKS': '4'}, 1),
    ({'OMPI_MCA_orte_hnp_uri': 'x', 'OMPI_COMM_WORLD_SIZE': '3'}, 3),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, 1),
    ({'TPU_WORKER_HOSTNAMES': 'a,b,c,d'}, 4),
    ({'TPU_WORKER_HOSTNAMES': 'a,b', 'MEGASCALE_NUM_SLICES': '3'}, 6)])
def test_the_number_of_processes_that_a_launcher_names(
    monkeypatch, given, count):
  for name, value in given.items():
    monkeypatch.setenv(name, value)
  assert launched.expected() == count


def test_flags_come_before_the_environment(monkeypatch):
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'a:1')
  monkeypatch.setenv('JAX_NUM_PROCESSES', '4')
  monkeypatch.setenv('JAX_PROCESS_ID', '3')
  assert launched.settings() == launched.Settings('a:1', 4, 3)
  assert launched.settings('b:2', 2, 0) == launched.Settings('b:2', 2, 0)


@pytest.mark.parametrize(('given', 'wrong'), [
    (('a:1', None, None), 'coordinator given without processes, process'),
    ((None, 2, None), 'processes given without coordinator, process'),
    ((None, 2, 2), 'process is 2'), ((None, 0, None), 'processes is 0'),
    (('a:1', 2, -1), 'process is -1')])
def test_settings_that_name_no_process_are_refused(given, wrong):
  with pytest.raises(ValueError, match=wrong):
    hosts.start(launched.settings(*given))


def test_an_environment_variable_that_is_no_number_is_named(monkeypatch):
  monkeypatch.setenv('JAX_NUM_PROCESSES', 'two')
  with pytest.raises(ValueError, match="JAX_NUM_PROCESSES is 'two'"):
    launched.settings()
