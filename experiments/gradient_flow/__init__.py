"""Vanishing and exploding gradients: `python -m experiments.gradient_flow`."""
