"""Functions of arrays: advantages, losses and log-probs."""
