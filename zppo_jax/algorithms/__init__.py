"""Who is asked what: ZPPO, its baselines, their prompts and the replay buffer."""
