"""Teachers: answers to questions, and short versions of traces.

Every teacher offers, for one step,

  answer(prompts, step) -> a group of graded rollouts for each prompt
  summarise(prompts, step) -> one graded summary for each prompt

and nothing of it depends on who else was asked: draws are keyed by
(question, step).
"""
