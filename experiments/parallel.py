"""Time running parallel in time against the loop, on this machine.

    python -m experiments.parallel

For each cell and size, interleaved in one process on the same float32 data: the forward
pass by the loop (`jaxrnn.unroll`) and parallel in time (`parallel.unroll`: Newton's
method, or for minGRU and the LRU a direct scan), and the gradient of Σ w·h with respect
to parameters, inputs and start: by the loop (`jaxrnn.bptt`), by the loop forward and
the scan of Jacobians backward (`parallel.bptt`), and parallel both ways. It prints the
medians, the speed relative to the loop in parentheses, Newton's sweeps, and the largest
difference from the loop, of the outputs and of a gradient's leaf relative to its norm.
Weights are those of `init`. Takes some minutes, mostly compiling.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.progress import track

import jaxrnn
from experiments.lib.pages import Pages
from experiments.lib.run_folder import Run, open_run
from experiments.lib.tables import Table
from experiments.lib.timing import compile_program, medians
from jaxrnn import elman, lru, lstm, mingru, parallel
from jaxrnn.gradcheck import relative_errors

CELLS = {"elman": elman(), "lstm": lstm(), "mingru": mingru(), "lru": lru()}
LINEAR = ("mingru", "lru")
# T, B and H of the linear cells, and of those that Newton's method solves
LINEAR_SIZES = ((1000, 1, 64), (10_000, 1, 64))
NEWTON_SIZES = ((100, 1, 4), (1000, 1, 4), (10_000, 1, 4), (1000, 1, 16))


@dataclass(frozen=True)
class Config:
    cells: tuple[str, ...] = tuple(CELLS)
    """Cells to time, by their names in the table."""
    seconds: float = 0.5
    """Seconds that the programs of one row run in turn; at least five rounds."""
    out: Path | None = None
    """Run folder; by default the next free runs/parallel-N."""


def draw(cell, steps, batch, units):
    """Parameters, inputs, start, and the weights w of the outputs."""
    rng = np.random.default_rng(0)
    params = cell.init(jax.random.key(0), units, units)
    xs, weights = rng.standard_normal((2, steps, batch, units), np.float32)
    return params, xs, cell.initial_state(params, (batch,)), weights


def programs(cell):
    """The five functions of (params, xs, state, w), by name."""

    def newton_gradient(params, xs, state, weights):
        def error(*inputs):
            return (weights * parallel.unroll(cell, *inputs)[0]).sum()

        return jax.grad(error, argnums=(0, 1, 2))(params, xs, state)

    return {
        "loop": lambda p, xs, s, w: jaxrnn.unroll(cell, p, xs, s),
        "parallel": lambda p, xs, s, w: parallel.unroll(cell, p, xs, s),
        "loop gradient": lambda *inputs: jaxrnn.bptt(cell, *inputs)[:3],
        "scan gradient": lambda *inputs: parallel.bptt(cell, *inputs)[:3],
        "parallel gradient": newton_gradient,
    }


def compare(name: str, size: tuple[int, int, int], seconds: float) -> dict[str, Any]:
    """A row: median seconds by program, how Newton ended, largest differences."""
    arguments = draw(CELLS[name], *size)
    compiled = {
        label: compile_program(f, *arguments)
        for label, f in programs(CELLS[name]).items()
    }
    out = {label: program.run() for label, program in compiled.items()}
    newton, loop = out["parallel"][2], out["loop gradient"]
    gaps = [relative_errors(out[f"{k} gradient"], loop) for k in ("scan", "parallel")]
    return {
        "cell": name,
        "size": size,
        "seconds": medians(compiled, seconds),
        "iterations": int(newton.iterations),
        "converged": bool(newton.converged),
        "outputs_differ": float(np.abs(out["parallel"][0] - out["loop"][0]).max()),
        "gradients_differ": max(error for gap in gaps for error in gap.values()),
    }


def cells_of(row: dict[str, Any]) -> list[str]:
    """A row as printed."""
    times, seconds_of = [], row["seconds"]
    for label, seconds in seconds_of.items():
        loop = seconds_of["loop gradient" if "gradient" in label else "loop"]
        faster = "" if label.startswith("loop") else f" ({loop / seconds:.2g})"
        times.append(f"{1000 * seconds:.3g}{faster}")
    sweeps = f"{row['iterations']}" if row["converged"] else "not converged"
    gaps = f"{row['outputs_differ']:.0e}", f"{row['gradients_differ']:.0e}"
    return [row["cell"], " ".join(map(str, row["size"])), *times, sweeps, *gaps]


def tables(run: Run) -> list[Table]:
    """Milliseconds, one row per cell and size."""
    head = ("cell", "T B H", *run.results[0]["seconds"], "sweeps", "Δ h", "Δ gradient")
    title = "milliseconds, and times as fast as the loop"
    return [Table(title, head, [cells_of(row) for row in run.results])]


PAGES = Pages(tables)


def main(config: Config) -> list[dict[str, Any]]:
    """Print and write the table, and return its rows."""
    out = open_run(config.out, "parallel", asdict(config))
    jobs = [
        (name, size)
        for name in config.cells
        for size in (LINEAR_SIZES if name in LINEAR else NEWTON_SIZES)
    ]
    rows = [compare(*job, config.seconds) for job in track(jobs, "timing")]
    PAGES.finish(out, rows)
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
