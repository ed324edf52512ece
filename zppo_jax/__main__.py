"""`python -m zppo_jax` is the command `zppo`."""

from zppo_jax import main

if __name__ == '__main__':
  main.main()
