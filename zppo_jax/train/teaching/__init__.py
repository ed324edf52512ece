"""What teachers of a run are made of and read."""
