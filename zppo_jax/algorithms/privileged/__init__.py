"""What a teacher may know and a student may not: hints, contexts, spoilers."""
