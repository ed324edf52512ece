"""The loop, a step, and a config that is spent into a run."""
