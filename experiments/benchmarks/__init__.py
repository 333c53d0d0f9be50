"""Time, memory and accuracy of gradients: `python -m experiments.benchmarks`."""
