"""Weights on disk: files of ours, hub folders, GGUF."""
