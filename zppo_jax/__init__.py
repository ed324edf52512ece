"""zppo_jax: post-training of small models with the teacher in the prompt."""

__version__ = '0.1.0'
