"""Time, memory and accuracy of the gradient, against autodiff and every peer.

    python -m experiments.benchmarks

For each cell and size it compiles the error Σ w·h with a random w, and its gradient
with respect to every parameter: by hand, by `gradient="autodiff"`, and in every other
installed library (`pip install -e '.[bench]'`), on the same weights and float32 data.
Gradients are first compared with autodiff in float64; a contender that does not agree
is reported and not timed. Then all run interleaved in one process. The manual gradient
and the fastest JAX peer also run with the batch split over two host devices. For
comparison there is the floor: the necessary arithmetic at the rate of a large matrix
product, or the necessary bytes at the rate of a copy, whichever takes longer.

After the grid come sweeps of T, B and H over two decades, memory budgets, bfloat16 and
sequences of up to 100,000 steps.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.progress import track

from experiments.benchmarks import beyond
from experiments.benchmarks.contenders import (
    CELLS,
    Problem,
    Size,
    agreeing,
    arguments,
    contender_program,
    pose,
    program,
    split_gradient,
)
from experiments.benchmarks.figures import draw
from experiments.benchmarks.tables import tables
from experiments.lib.pages import Pages
from experiments.lib.run_folder import open_run
from experiments.lib.timing import (
    Program,
    Rates,
    compile_program,
    interleave,
    machine_rates,
    medians,
    resident_mib,
)
from experiments.peers.record import Peer

GRID = (
    Size(50, 20, 2, 50),
    Size(100, 32, 64, 128),
    Size(100, 64, 256, 256),
    Size(784, 64, 1, 128),
    Size(1000, 16, 32, 64),
    Size(50, 128, 256, 512),
)
RESIDENT = (GRID[3], GRID[5])  # each contender in a process of its own
NO_RIVALS = ("manual", "autodiff", "torch")  # of the split batch


@dataclass(frozen=True)
class Config:
    cell: tuple[Literal["elman", "lstm", "gru"], ...] = ("elman", "lstm", "gru")
    """Cells to measure."""
    seconds: float = 10
    """Seconds for the gradients of each cell and size; at least 5 rounds."""
    quick: bool = False
    """Run only the sizes under 20 ms, for at most two seconds each, and only the
    gradient: no forward pass, resident memory, sweeps or studies."""
    out: Path | None = None
    """Run folder; by default the next free runs/benchmarks-N."""


def gradients(problem: Problem, peers: dict[str, Peer]) -> dict[str, Program]:
    """Every contender's gradient, and two of them with the batch split."""
    programs = {name: program(problem, peer) for name, peer in peers.items()}
    if len(jax.devices()) == 1 or problem.size.b % 2:
        return programs
    rivals = {name: programs[name] for name in peers if name not in NO_RIVALS}
    split = ["manual"]
    if rivals:
        probe = medians(rivals, seconds=0.0, least=3)
        split.append(min(probe, key=lambda name: probe[name]))
    for name in split:
        given = arguments(problem, peers[name])
        halves = compile_program(split_gradient(peers[name], 2), *given)
        programs[f"{name}, split"] = halves
    return programs


def floor_ms(problem: Problem, rates: Rates) -> float:
    """The least time of the gradient on this machine.

    Products: h W_s, δ W_sᵀ and hᵀδ; x W_x and xᵀδ. Bytes: xs twice; w once; every part
    of the state written and read once.
    """
    rows = problem.size.t * problem.size.b
    (d, h), wide = problem.size[2:], problem.params.w_s.shape[1]
    flops = 2 * rows * wide * (3 * h + 2 * d)
    parts = len(CELLS[problem.cell].initial_state(problem.params))
    moved = 4 * rows * (2 * d + h + 2 * h * parts)
    return 1e3 * max(flops / rates.flops, moved / rates.bytes)


def compared(times: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Median times, and the median of each round's ratio with its spread."""
    rows = {}
    for name, seconds in times.items():
        ratios = seconds / times["manual"]
        rows[name] = {
            "ms": float(np.median(seconds)) * 1e3,
            "ratio": float(np.median(ratios)),
            "ratio_spread": [float(q) for q in np.quantile(ratios, (0.1, 0.9))],
            "rounds": len(ratios),
        }
    return rows


def measure(
    cell: str, size: Size, config: Config, rates: Rates
) -> list[dict[str, Any]]:
    """The rows of one cell and size, one per contender."""
    problem = pose(cell, size)
    peers, errors = agreeing(problem)
    programs = gradients(problem, peers)
    about = {"cell": cell, "size": list(size)}
    rows = {
        name: about | {"contender": name, "error": errors.get(name.split(",")[0])}
        for name in errors | programs
    }
    seconds = min(2, config.seconds) if config.quick else config.seconds
    for name, found in compared(interleave(programs, seconds)).items():
        rows[name] |= found
        rows[name] |= {"compile_seconds": programs[name].compile_seconds}
        rows[name] |= {"temporary_mib": programs[name].temporary_mib}
    if not config.quick:
        alone = {name: program(problem, peer, False) for name, peer in peers.items()}
        for name, found in compared(interleave(alone, config.seconds / 4)).items():
            rows[name] |= {f"forward_{key}": found[key] for key in ("ms", "ratio")}
            if size in RESIDENT:
                mib = resident_mib(contender_program, cell, size, name)
                rows[name] |= {"resident_mib": mib}
    floor = floor_ms(problem, rates)
    ratio = floor / rows["manual"]["ms"]
    return [*rows.values(), about | {"contender": "floor", "ms": floor, "ratio": ratio}]


def main(config: Config) -> dict[str, Any]:
    """Measure, print and write everything."""
    out, rates = open_run(config.out, "benchmarks", asdict(config)), machine_rates()
    sizes = GRID[:2] if config.quick else GRID
    jobs = [(cell, size) for cell in config.cell for size in sizes]
    results: dict[str, Any] = {
        "rates": {
            "product, GFLOP": rates.flops / 1e9,
            "copy, GB": rates.bytes / 1e9,
        },
        "grid": [
            row
            for cell, size in track(jobs, "measuring the grid")
            for row in measure(cell, size, config, rates)
        ],
    }
    means, *_ = PAGES.publish(out, results)
    if not config.quick:
        studies = beyond.studies(config.cell)
        for name, study in track(studies.items(), "sweeps, studies"):
            results[name] = study()
            PAGES.publish(out, results)
    means.show()
    print(f"written to {out}/")
    return results


PAGES = Pages(tables, draw)
