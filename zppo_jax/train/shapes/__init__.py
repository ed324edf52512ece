"""`shapes.auto`: the section `shapes`, proposed from data and memory."""
