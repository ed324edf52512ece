"""`zppo plan`: whether a config fits accelerators that are not here, how long a
step takes on them, and what it costs."""
