"""Weights on disk: files of this package, folders of the hub, GGUF."""
