"""zppo_jax: post-training of small models with the teacher in the prompt."""

from zppo_jax import import_paths

__version__ = '0.1.0'

import_paths.refuse_moved_modules()
