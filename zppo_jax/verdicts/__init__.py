"""What an answer is worth: parsing, kinds of equality, and the wall around
the grading of untrusted text (docs/verdicts.md).

  boxed     the last \\boxed{} of a response
  screen    what is too long or too steep to be looked at
  kinds     (answer, reference) -> score, a table; plain, maths, gym
  spelling  one spelling of what looks the same; numerals, units, forms
  worker    the process that runs them; wall: the pool that kills it
  judge     a model that compares, asked through an endpoint
  verifier  cache, journal, wall and judge: questions in, verdicts out

Nothing that a worker imports knows jax.
"""
