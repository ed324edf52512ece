"""Imports every module of the package; what that prints or warns of fails."""

import importlib
import pkgutil

import zppo_jax

names = [m.name for m in pkgutil.walk_packages(zppo_jax.__path__, 'zppo_jax.')]
for name in names:
  importlib.import_module(name)
print(f'{len(names)} modules')
