"""Who is asked what: ZPPO, its baselines, their prompts, the replay buffer."""
