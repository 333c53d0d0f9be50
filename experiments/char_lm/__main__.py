"""See `python -m experiments.char_lm --help`."""

import os

import jax
import tyro

from experiments.char_lm import study

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    study.main(tyro.cli(study.Config, description=study.__doc__))
