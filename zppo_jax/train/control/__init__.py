"""What a run does beside its steps: evaluations, the best weights, callbacks,
and the directory that it holds."""
