"""Converted networks against the real ones: `python -m experiments.conversion`."""
