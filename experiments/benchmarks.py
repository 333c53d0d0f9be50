"""Time and memory of the gradient, against automatic differentiation and the peers.

    python -m experiments.benchmarks

Compiles the error Σ w·h over a random w, and its gradient with respect to every
parameter, for each cell and size: by hand, by `gradient="autodiff"`, and in every other
library that is installed (`pip install -e '.[bench]'`), on the same weights. A peer's
output and gradient are compared first; one that does not agree is reported, not timed.
All run interleaved in one process. A row gives the median time, the median of its ratio
to the manual gradient's time in the same round with its spread (10th to 90th
percentile; above 1: slower than by hand), the peak temporary memory of the compiled
program and the time it took to compile.
"""

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import tyro
from jax import Array
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxrnn
from experiments.peers import Peer, jax_peers, torch_gradient
from jaxrnn.unroll import Gradient

CELLS = {"elman": jaxrnn.elman, "lstm": jaxrnn.lstm, "gru": jaxrnn.gru}


class Size(NamedTuple):
    """T steps, B rows, D inputs, H units."""

    t: int
    b: int
    d: int
    h: int


AGREES = 1e-3  # relative error of a float32 gradient that counts as the same one
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
    """Time and memory of the gradient, against autodiff and the peers."""

    cell: tuple[Literal["elman", "lstm", "gru"], ...] = ("elman", "lstm", "gru")
    """Cells to measure."""
    seconds: float = 6
    """Time for two contenders of a row, more for more; at least 5 rounds are run."""
    quick: bool = False
    """Only the sizes that take under 20 ms, for half a second each."""
    out: Path = Path("runs/benchmarks")
    """Folder for benchmarks.json and benchmarks.md."""


class Program(NamedTuple):
    """A compiled contender."""

    run: Callable[[], Any]
    compile_seconds: float
    temporary_mib: float


class Problem(NamedTuple):
    """One cell and size on random data: E = Σ w·h."""

    cell: str
    params: jaxrnn.Params
    xs: Array
    w: Array

    def contenders(self) -> dict[str, Peer]:
        """By hand, by automatic differentiation, and the JAX peers."""
        record = CELLS[self.cell]()

        def own(gradient: Gradient) -> Peer:
            def run(params, xs):
                return jaxrnn.unroll(record, params, xs, gradient=gradient)[0]

            return Peer(lambda params: params, run)

        hidden = self.params.w_s.shape[0]
        peers = jax_peers(self.cell, hidden)
        return {"manual": own("manual"), "autodiff": own("autodiff")} | peers

    def compile(self, peer: Peer) -> Program:
        """E and its gradient in the peer's own weights."""
        weights = peer.convert(self.params)

        def error(weights, xs, w):
            return (w * peer.run(weights, xs)).sum()

        begun = time.perf_counter()
        lowered = jax.jit(jax.value_and_grad(error)).lower(weights, self.xs, self.w)
        program = lowered.compile()
        seconds = time.perf_counter() - begun
        analysis = program.memory_analysis()
        memory = analysis.temp_size_in_bytes / 2**20 if analysis else math.nan
        return Program(lambda: program(weights, self.xs, self.w), seconds, memory)

    def disagreement(self, peer: Peer, reference: jaxrnn.Params) -> float:
        """Largest relative error of a leaf of the gradient in the library's layout."""

        def error(params):
            return (self.w * peer.run(peer.convert(params), self.xs)).sum()

        return _largest_error(jax.jit(jax.grad(error))(self.params), reference)


def pose(cell: str, size: Size) -> Problem:
    """Random data and fresh parameters.

    Fresh biases are zero: a library with fewer of them holds the same weights.
    """
    k_params, k_xs, k_w = jax.random.split(jax.random.key(0), 3)
    params = CELLS[cell]().init(k_params, size.d, size.h)
    xs = jax.random.normal(k_xs, (size.t, size.b, size.d))
    return Problem(cell, params, xs, jax.random.normal(k_w, (size.t, size.b, size.h)))


def _largest_error(found: Any, wanted: Any) -> float:
    """The largest relative error of a weight matrix or of `b`."""
    pairs = [(getattr(found, n), getattr(wanted, n)) for n in ("w_x", "w_s", "b")]
    return max(float(np.linalg.norm(f - w) / np.linalg.norm(w)) for f, w in pairs)


def compile_all(problem: Problem) -> tuple[dict[str, Program], dict[str, float]]:
    """The contenders that agree with autodiff, and every contender's disagreement."""
    contenders = problem.contenders()
    _, reference = problem.compile(contenders["autodiff"]).run()
    programs, errors = {}, {}
    for name, peer in contenders.items():
        errors[name] = problem.disagreement(peer, reference)
        if errors[name] < AGREES:
            programs[name] = problem.compile(peer)
    if find_spec("torch"):
        run = torch_gradient(problem.cell, problem.params, problem.xs, problem.w)
        w_ih, w_hh, b = run()[1]
        found = jaxrnn.Params(w_ih.T, w_hh.T, b)
        errors["torch"] = _largest_error(found, reference)
        if errors["torch"] < AGREES:
            programs["torch"] = Program(run, math.nan, math.nan)
    return programs, errors


def time_interleaved(programs: dict[str, Program], seconds: float) -> dict[str, Any]:
    """Seconds of each program in each round, all of them once a round."""
    for program in programs.values():
        jax.block_until_ready(program.run())
    rounds: dict[str, list[float]] = {name: [] for name in programs}
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(rounds["manual"]) < 5:
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program.run())
            rounds[name].append(time.perf_counter() - start)
    return {name: np.array(times) for name, times in rounds.items()}


def measure(cell: str, size: Size, seconds: float) -> list[dict[str, Any]]:
    """The rows of one cell and size, one a contender."""
    programs, errors = compile_all(pose(cell, size))
    times = time_interleaved(programs, seconds * len(programs) / 2)
    rows = []
    for name, error in errors.items():
        row = {"cell": cell, "size": tuple(size), "contender": name, "error": error}
        if name in programs:
            ratios = times[name] / times["manual"]
            row |= {
                "ms": float(np.median(times[name])) * 1e3,
                "ratio": float(np.median(ratios)),
                "ratio_spread": [float(q) for q in np.quantile(ratios, (0.1, 0.9))],
                "rounds": len(ratios),
                "temporary_mib": programs[name].temporary_mib,
                "compile_seconds": programs[name].compile_seconds,
            }
        rows.append(row)
    return rows


COLUMNS = (
    "cell (T, B, D, H)",
    "contender",
    "ms",
    "over manual (spread)",
    "MiB",
    "compile s",
    "gradient error",
)


def cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as text, in the order of COLUMNS."""
    about = (f"{row['cell']} {row['size']}", row["contender"])
    if "ms" not in row:
        return (*about, "disagrees", "", "", "", f"{row['error']:.0e}")
    low, high = row["ratio_spread"]
    return (
        *about,
        f"{row['ms']:.2f}",
        f"{row['ratio']:.2f} ({low:.2f}-{high:.2f})",
        _number(row["temporary_mib"]),
        _number(row["compile_seconds"]),
        f"{row['error']:.0e}",
    )


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def main(config: Config) -> list[dict[str, Any]]:
    """Measure, print and write every row."""
    console = Console()
    sizes = GRID[:2] if config.quick else GRID
    seconds = 0.5 if config.quick else config.seconds
    jobs = [(cell, size) for cell in config.cell for size in sizes]
    rows = [
        row
        for cell, size in track(jobs, "measuring", console=console)
        for row in measure(cell, size, seconds)
    ]
    table = Table(*COLUMNS, title="error and gradient, by hand and otherwise")
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
