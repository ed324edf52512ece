"""What a run measures beside its steps (the section `watch`)."""
