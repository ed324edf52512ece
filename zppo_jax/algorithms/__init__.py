"""Which prompts are asked: ZPPO, its baselines, prompts, the replay buffer."""
