"""See `python -m experiments.conversion --help`."""

import tyro

from experiments.conversion import study

if __name__ == "__main__":
    study.main(tyro.cli(study.Config, description=study.__doc__))
