"""Beyond the grid: sweeps, memory budgets, bfloat16, depth and long sequences."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.contenders import (
    DEEP,
    Size,
    agreeing,
    contenders,
    gradient_error,
    own,
    pose,
    reference,
    timed,
)
from experiments.peers.record import Peer

# Two decades of each axis; the others stay at this size.
MIDDLE = Size(100, 32, 64, 128)
SWEEPS = {
    "t": (10, 32, 100, 316, 1000),
    "b": (1, 3, 10, 32, 100),
    "h": (8, 25, 80, 253, 800),
}
LONG = (Size(784, 64, 1, 128), Size(1000, 16, 32, 64))
LOW = (Size(1000, 16, 32, 64), Size(4000, 16, 32, 64))
GROWTH = tuple(Size(t, 4, 8, 32) for t in (1000, 10_000, 100_000))
DEPTH = (MIDDLE, Size(1000, 16, 32, 64))
SECONDS = 1.5  # per comparison, or a multiple of it
RIVAL = "flax linen"  # has every cell, and is the fastest on most

Rows = list[dict[str, Any]]


def studies(cells: Sequence[str]) -> dict[str, Callable[[], Rows]]:
    """Every study by its name."""
    every = {"sweeps": sweep, "budgets": budgets, "bfloat16": low_precision}
    over = {
        name: lambda study=study: [row for cell in cells for row in study(cell)]
        for name, study in every.items()
    }
    return over | {"growth": growth, "depth": depth}


def sweep(cell: str) -> Rows:
    """Time of the gradient over two decades of T, B and H."""
    rows = []
    for axis, value in ((axis, v) for axis, values in SWEEPS.items() for v in values):
        problem = pose(cell, MIDDLE._replace(**{axis: value}))
        peers = contenders(cell, problem.size)
        chosen = {n: peers[n] for n in ("manual", RIVAL, "torch") if n in peers}
        found = timed(problem, chosen, SECONDS)
        rows += [row | {"axis": axis, "value": value} for row in found]
    return rows


def exponent(values: Sequence[float], times: Sequence[float]) -> float:
    """The slope of log time over log value, fitted to the upper half of the values."""
    half = len(values) // 2
    return float(np.polyfit(np.log(values[half:]), np.log(times[half:]), 1)[0])


def budgets(cell: str) -> Rows:
    """Temporary memory and time of each choice of what to store, and of the peers."""
    rows = []
    for size in LONG:
        peers = contenders(cell, size)
        for name in ("manual", "autodiff", "torch"):
            peers.pop(name, None)
        choices = {
            "manual": own(cell),
            "manual, activations": own(cell, store="activations"),
            f"manual, borders every {_root(size)}": _borders(cell, size),
        }
        rows += timed(pose(cell, size), choices | peers, 4 * SECONDS)
    return rows


def _root(size: Size) -> int:
    return round(math.sqrt(size.t))


def _borders(cell: str, size: Size) -> Peer:
    return own(cell, store="borders", chunk_size=_root(size))


def low_precision(cell: str) -> Rows:
    """In bfloat16: the error of weight gradients against float64, and time."""
    rows = []
    for size in LOW:
        problem, peers = pose(cell, size, jnp.bfloat16), contenders(cell, size)
        # autodiff's time grows with T squared
        names = ["manual", *["autodiff"] * (size.t <= 1000), RIVAL]
        chosen = {name: peers[name] for name in names if name in peers}
        wanted = reference(problem)
        for row in timed(problem, chosen, 2 * SECONDS):
            wrong = gradient_error(problem, chosen[row["contender"]], wanted)
            rows.append(row | {"error": wrong})
    return rows


def growth() -> Rows:
    """Time and temporary memory of an LSTM's gradient up to 100,000 steps."""
    rows = []
    for size in GROWTH:
        choices = {"manual": own("lstm"), "manual, borders": _borders("lstm", size)}
        rows += timed(pose("lstm", size), choices, 2 * SECONDS)
    return rows


def depth() -> Rows:
    """A stack of three LSTM layers, against the other libraries that agree."""
    problems = [pose(DEEP, size) for size in DEPTH]
    return [row for p in problems for row in timed(p, agreeing(p)[0], 4 * SECONDS)]
