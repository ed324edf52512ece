"""What a run leaves: workdir, checkpoints, metrics, samples, writers."""
