"""Data sets in verl's form, and how such a row is read.

  plain           verl's own scripts, by `data_source`
  dapo_math       DAPO-Math-17k, and its cleaned copy
  eurus2          Eurus-2-RL-Data
  openmmreasoner  OpenMMReasoner-RL-74K
  rows            the question and the gold answer of a row
"""
