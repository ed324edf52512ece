"""Prompts as token segments: wording, codecs and what may not be forged."""
