"""Arrays in, arrays out: advantages, losses, log-probs."""
