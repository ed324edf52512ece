"""Many paired runs from one command, and their tables."""
