"""Which prompts a step samples: ZPPO, its baselines, the replay buffer."""
