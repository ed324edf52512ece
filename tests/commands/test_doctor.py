"""`zppo doctor` on this machine, and on one where something is wrong."""

from zppo_jax.commands import doctor
from zppo_jax.verdicts.sandbox import GradingResult


def test_nothing_is_wrong_here(capsys, monkeypatch, tmp_path):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'programs'))
  assert doctor.main()
  out = capsys.readouterr().out
  assert 'attention xla; splash runs on TPUs' in out
  assert f'{tmp_path}/programs: empty yet' in out
  assert 'each compiled and ran a product' in out
  assert 'answers are graded in' in out
  assert 'WRONG' not in out and out.endswith('nothing is wrong\n')
  assert not (tmp_path / 'programs').exists()


def test_what_is_wrong_is_named_with_a_remedy(capsys, monkeypatch):
  """One check that fails leaves the others; a grader that errs is found."""
  def broken():
    yield 'a first line'
    raise OSError('no driver\nof version 9')

  monkeypatch.setattr(doctor.Sandbox, 'grade', lambda self, jobs: [
      GradingResult('score', 1.0)] * 2)
  checks = {c.name: c for c in doctor.CHECKS}
  assert not doctor.main((
      doctor.Check('driver', broken, 'install it'), checks['verdicts'],
      checks['machine']))
  out = capsys.readouterr().out
  assert ('driver\n  a first line\n  WRONG: OSError: no driver of version 9\n'
          '  install it\n') in out
  assert 'WRONG: RuntimeError: 7 and 8 for 7 were graded' in out
  assert 'cores may be used' in out
  assert out.endswith('\nwrong: driver, verdicts\n')


def test_a_missing_extra_says_how_it_is_installed(capsys, monkeypatch):
  monkeypatch.setattr(doctor.failures, 'EXTRAS', {
      'no_such_package': 'pip install it', 'jax': ''})
  checks = {c.name: c for c in doctor.CHECKS}
  assert doctor.main((checks['extras'],))
  assert capsys.readouterr().out == (
      'extras\n  no_such_package is not here: pip install it\n'
      '  jax is here\n\nnothing is wrong\n')
