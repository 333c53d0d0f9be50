"""The options of a run."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Config:
    cell: tuple[Literal["elman", "lstm", "gru"], ...] = ("elman", "lstm")
    """Networks to train, one after another."""
    text: Path | None = None
    """A UTF-8 text file; by default the Shakespeare that ships with the package."""
    hidden: int = 192
    """Units of an LSTM; other cells get the size with as many parameters."""
    steps: int = 1800
    """Windows to train on, for each cell."""
    batch: int = 32
    """Batch size: the number of parallel streams of text."""
    window: int = 64
    """Characters per window: how far BPTT goes back (the state is carried on)."""
    accumulate: int = 2
    """Windows whose gradients are averaged before one update (M of equation 61)."""
    clip_norm: float = 0.5
    """Threshold of the global norm (Algorithm 1 of Pascanu et al. 2013)."""
    learning_rate: float = 1e-2
    """Adam's peak step size; it falls to a tenth along a cosine."""
    gradient: Literal["manual", "autodiff"] = "manual"
    """The hand-derived BPTT, or JAX's automatic differentiation of the same network."""
    validate_every: int = 450
    """Windows between evaluations on the held-out text, each with a checkpoint."""
    sample: int = 400
    """Characters of text to sample at the end."""
    seed: int = 0
    """Seed of the initial weights and of the sampled text."""
    out: Path | None = None
    """Run folder; by default the next free runs/char_lm-N, or the newest to resume."""
    resume: bool = False
    """Continue from the run folder's newest checkpoints, with the same options."""

    def __post_init__(self):
        for name, value in asdict(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not 0 < value < math.inf and name != "seed":
                option = name.replace("_", "-")
                raise SystemExit(f"--{option}: expected a positive number, got {value}")
        if not 0 <= self.seed < 2**32:
            raise SystemExit(f"--seed: expected 0 to 2³² - 1, got {self.seed}")
        if not self.cell or len(set(self.cell)) < len(self.cell):
            raise SystemExit(f"--cell: expected different cells, got {self.cell}")
