"""Programs that are compiled before a run calls them."""
