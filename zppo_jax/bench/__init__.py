"""`zppo bench`: named, repeatable measurements beside the machine's limits."""
