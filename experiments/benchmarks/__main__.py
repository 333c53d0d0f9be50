"""See `python -m experiments.benchmarks --help`."""

import jax
import tyro

from experiments.benchmarks import study

if __name__ == "__main__":
    chosen = tyro.cli(study.Config, description=study.__doc__)
    jax.config.update("jax_num_cpu_devices", 2)  # for the split batch
    study.main(chosen)
