"""What other libraries call our fields, for messages; a file for each."""
