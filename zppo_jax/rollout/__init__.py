"""From prompts to graded groups: the engine and its device programs."""
