"""Groups to gradient: layouts, scoring, the update, the optimizer."""
