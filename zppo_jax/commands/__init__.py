"""What each command does; `table` lists them."""
