"""See `python -m experiments.gradient_flow --help`."""

import tyro

from experiments.gradient_flow import study

if __name__ == "__main__":
    study.main(tyro.cli(study.Config, description=study.__doc__))
