"""Prompts to graded groups: the engine and what it runs on the device."""
