"""What an answer is worth: how it is compared with the gold answer, and where.

  grading   responses in, verdicts out; called by rollout/collect.py
  verifier  joins cache, journal, sandbox and judge for the answers of a run
  sandbox   the pool of killable workers; worker is the process that grades
  judge     a model that compares two answers, asked through an endpoint
  journal   verdicts.jsonl, the verdicts of a run on disk
  control   control strings of chat templates in words for a server
  kinds/    KINDS, the table of comparisons, and a file for each family of them

No file that a worker imports may import jax (docs/verdicts.md).
"""
