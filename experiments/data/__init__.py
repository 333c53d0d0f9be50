"""Small data that ships with the experiments."""
