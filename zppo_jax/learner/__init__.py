"""From groups to gradients: layouts, scoring, updates, optimizers."""
