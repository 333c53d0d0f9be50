"""Beyond the grid: sweeps, memory budgets, bfloat16 and long sequences."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.contenders import (
    Size,
    gradient_error,
    gradient_program,
    jax_contenders,
    own,
    pose,
    reference,
)
from experiments.benchmarks.depth import depth
from experiments.lib.timing import Program, interleave
from experiments.peers.torch import torch_runs

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
SECONDS = 1.5  # of a comparison, or a multiple of it
RIVAL = "flax linen"  # has every cell, and is the fastest on most


def studies(cells: Sequence[str]) -> dict[str, Callable[[], list[dict[str, Any]]]]:
    """Every study by its name, each a list of rows."""
    parts = {"sweeps": sweep, "budgets": budgets, "bfloat16": low_precision}
    every = {name: partial(_over, part, cells) for name, part in parts.items()}
    return every | {"growth": growth, "depth": partial(depth, 4 * SECONDS)}


def _over(study, cells):
    return [row for cell in cells for row in study(cell)]


def _median_ms(programs: dict[str, Program], seconds: float) -> dict[str, float]:
    times = interleave(programs, seconds)
    return {name: float(np.median(times[name])) * 1e3 for name in programs}


def sweep(cell: str) -> list[dict[str, Any]]:
    """Time of the gradient over two decades of T, B and H."""
    rows = []
    for axis, values in SWEEPS.items():
        for value in values:
            problem = pose(cell, MIDDLE._replace(**{axis: value}))
            peers = jax_contenders(cell, problem.size)
            programs = {
                name: gradient_program(problem, peers[name])
                for name in ("manual", RIVAL)
                if name in peers
            }
            if find_spec("torch"):
                programs["torch"] = Program(torch_runs(cell, *problem[2:])[1])
            for name, ms in _median_ms(programs, SECONDS).items():
                row = {"cell": cell, "axis": axis, "value": value}
                rows.append(row | {"contender": name, "ms": ms})
    return rows


def exponent(values: Sequence[float], times: Sequence[float]) -> float:
    """The slope of log time over log value, on the upper half of the values."""
    half = len(values) // 2
    return float(np.polyfit(np.log(values[half:]), np.log(times[half:]), 1)[0])


def budgets(cell: str) -> list[dict[str, Any]]:
    """Temporary memory and time of each choice of what to store, and of the peers."""
    rows = []
    for size in LONG:
        problem = pose(cell, size)
        root = round(math.sqrt(size.t))
        choices = {
            "manual": own(cell),
            "manual, activations": own(cell, store="activations"),
            f"manual, borders every {root}": own(
                cell, store="borders", chunk_size=root
            ),
        }
        peers = jax_contenders(cell, size)
        rivals = {n: p for n, p in peers.items() if n not in ("manual", "autodiff")}
        programs = {
            n: gradient_program(problem, p) for n, p in (choices | rivals).items()
        }
        for name, ms in _median_ms(programs, 4 * SECONDS).items():
            mib = programs[name].temporary_mib
            about = {"cell": cell, "size": list(size), "contender": name}
            rows.append(about | {"ms": ms, "temporary_mib": mib})
    return rows


def low_precision(cell: str) -> list[dict[str, Any]]:
    """In bfloat16: error of the weights' gradients against float64, and time."""
    rows = []
    for size in LOW:
        problem = pose(cell, size, jnp.bfloat16)
        wanted = reference(problem)
        peers = jax_contenders(cell, size)
        names = [n for n in ("manual", "autodiff", RIVAL) if n in peers]
        if size.t > 1000:
            names.remove("autodiff")  # its time grows with T squared
        programs = {name: gradient_program(problem, peers[name]) for name in names}
        for name, ms in _median_ms(programs, 2 * SECONDS).items():
            about = {"cell": cell, "size": list(size), "contender": name}
            wrong = gradient_error(problem, peers[name], wanted)
            rows.append(about | {"ms": ms, "error": wrong})
    return rows


def growth() -> list[dict[str, Any]]:
    """Time and temporary memory of an LSTM's gradient up to 100,000 steps."""
    rows = []
    for size in GROWTH:
        problem = pose("lstm", size)
        root = round(math.sqrt(size.t))
        choices = {
            "manual": own("lstm"),
            "manual, borders": own("lstm", store="borders", chunk_size=root),
        }
        programs = {
            name: gradient_program(problem, peer) for name, peer in choices.items()
        }
        for name, ms in _median_ms(programs, 2 * SECONDS).items():
            mib = programs[name].temporary_mib
            about = {"cell": "lstm", "size": list(size), "contender": name}
            rows.append(about | {"ms": ms, "temporary_mib": mib})
    return rows
