"""How much each token of a rollout is taught: numbers on the host."""
