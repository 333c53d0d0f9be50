"""Time and memory of the gradient, by hand and by automatic differentiation.

    python -m experiments.benchmarks

Compiles the error and its gradient with respect to every parameter, Σ w·h over a random
w, for each cell and size. All contenders run interleaved in one process; a row gives
medians, their ratio with its spread (10th to 90th percentile over rounds), the peak
temporary memory of the compiled programs, and the time it took to compile them.
"""

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxrnn
from jaxrnn.unroll import Gradient

CELLS = {"elman": jaxrnn.elman, "lstm": jaxrnn.lstm, "gru": jaxrnn.gru}


class Size(NamedTuple):
    """T steps, B rows, D inputs, H units."""

    t: int
    b: int
    d: int
    h: int


GRADIENTS: tuple[Gradient, ...] = ("manual", "autodiff")
GRID = (
    Size(50, 20, 2, 50),
    Size(100, 32, 64, 128),
    Size(100, 64, 256, 256),
    Size(784, 64, 1, 128),
    Size(1000, 16, 32, 64),
    Size(50, 128, 256, 512),
)


@dataclass(frozen=True)
class Config:
    """Time and memory of the gradient, by hand and by automatic differentiation."""

    cell: tuple[Literal["elman", "lstm", "gru"], ...] = ("elman", "lstm", "gru")
    """Cells to measure."""
    seconds: float = 6
    """Time to spend on each row, beside compilation; at least 5 rounds are run."""
    quick: bool = False
    """Only the sizes that take under 20 ms, for half a second each."""
    out: Path = Path("runs/benchmarks")
    """Folder for benchmarks.json and benchmarks.md."""


class Program(NamedTuple):
    """A compiled contender."""

    run: Callable[[], Any]
    compile_seconds: float
    temporary_mib: float


def compile_gradient(cell: str, size: Size, gradient: Gradient) -> Program:
    """E and ∂E/∂params of `unroll` at this size, compiled, on random data."""
    record = CELLS[cell]()
    k_params, k_xs, k_w = jax.random.split(jax.random.key(0), 3)
    params = record.init(k_params, size.d, size.h)
    xs = jax.random.normal(k_xs, (size.t, size.b, size.d))
    w = jax.random.normal(k_w, (size.t, size.b, size.h))

    def error(params, xs):
        hs, _ = jaxrnn.unroll(record, params, xs, gradient=gradient)
        return (w * hs).sum()

    begun = time.perf_counter()
    program = jax.jit(jax.value_and_grad(error)).lower(params, xs).compile()
    seconds = time.perf_counter() - begun
    analysis = program.memory_analysis()
    memory = analysis.temp_size_in_bytes / 2**20 if analysis else math.nan
    return Program(lambda: program(params, xs), seconds, memory)


def time_interleaved(programs: dict[str, Program], seconds: float) -> dict[str, Any]:
    """Seconds of each program in each round, all of them once a round."""
    for program in programs.values():
        jax.block_until_ready(program.run())
    rounds: dict[str, list[float]] = {name: [] for name in programs}
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(rounds[next(iter(rounds))]) < 5:
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program.run())
            rounds[name].append(time.perf_counter() - start)
    return {name: np.array(times) for name, times in rounds.items()}


def measure(cell: str, size: Size, seconds: float) -> dict[str, Any]:
    """One row of the table."""
    programs = {g: compile_gradient(cell, size, g) for g in GRADIENTS}
    times = time_interleaved(programs, seconds)
    ratios = times["manual"] / times["autodiff"]
    return {
        "cell": cell,
        "size": tuple(size),
        "ms": {n: float(np.median(t)) * 1e3 for n, t in times.items()},
        "ratio": float(np.median(ratios)),
        "ratio_spread": [float(q) for q in np.quantile(ratios, (0.1, 0.9))],
        "rounds": len(ratios),
        "temporary_mib": {n: p.temporary_mib for n, p in programs.items()},
        "compile_seconds": {n: p.compile_seconds for n, p in programs.items()},
    }


COLUMNS = (
    "cell (T, B, D, H)",
    "manual ms",
    "autodiff ms",
    "ratio (spread)",
    "manual MiB",
    "autodiff MiB",
    "compile s",
)


def cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as text, in the order of COLUMNS."""
    low, high = row["ratio_spread"]
    ms, mib, compiled = row["ms"], row["temporary_mib"], row["compile_seconds"]
    return (
        f"{row['cell']} {row['size']}",
        f"{ms['manual']:.2f}",
        f"{ms['autodiff']:.2f}",
        f"{row['ratio']:.2f} ({low:.2f}-{high:.2f})",
        f"{mib['manual']:.1f}",
        f"{mib['autodiff']:.1f}",
        f"{compiled['manual']:.1f} / {compiled['autodiff']:.1f}",
    )


def main(config: Config) -> list[dict[str, Any]]:
    """Measure, print and write every row."""
    console = Console()
    sizes = GRID[:2] if config.quick else GRID
    seconds = 0.5 if config.quick else config.seconds
    jobs = [(cell, size) for cell in config.cell for size in sizes]
    rows = [
        measure(cell, size, seconds)
        for cell, size in track(jobs, "measuring", console=console)
    ]
    table = Table(*COLUMNS, title="error and gradient, by hand and by autodiff")
    for row in rows:
        table.add_row(*cells_of(row))
    console.print(table)
    config.out.mkdir(parents=True, exist_ok=True)
    about = {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
    }
    text = json.dumps({"about": about, "rows": rows}, indent=2)
    (config.out / "benchmarks.json").write_text(text + "\n")
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(cells_of, rows)]
    markdown = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    (config.out / "benchmarks.md").write_text(markdown + "\n")
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
