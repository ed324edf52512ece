"""Training: a config becomes a run, and the run a loop of steps."""
