"""Character language models: `python -m experiments.char_lm`."""
