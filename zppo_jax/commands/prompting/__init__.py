"""What the model reads: whose words a command asks with, and how they look."""
