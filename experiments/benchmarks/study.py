"""Time, memory and accuracy of the gradient, against autodiff and every peer.

    python -m experiments.benchmarks

For each cell and size it compiles the error Σ w·h over a random w, and its gradient
with respect to every parameter: by hand, by `gradient="autodiff"`, and in every other
library that is installed (`pip install -e '.[bench]'`), on the same weights and float32
data. Gradients are first compared with autodiff in float64; a contender that does not
agree is reported, not timed. Then all run interleaved in one process. The manual
gradient and the fastest JAX peer also run with the batch split over two host devices.
Beside them stands the floor: the arithmetic that the mathematics needs at the rate of a
large matrix product, or its bytes at the rate of a copy, whichever takes longer.

After the grid come sweeps of T, B and H over two decades, memory budgets, bfloat16 and
sequences of up to 100,000 steps.
"""

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

import jaxrnn
from experiments.benchmarks import beyond
from experiments.benchmarks.contenders import (
    CELLS,
    Problem,
    Size,
    arguments,
    contender_program,
    error,
    gradient_error,
    gradient_program,
    jax_contenders,
    largest_error,
    pose,
    reference,
    split_gradient,
)
from experiments.benchmarks.figures import draw
from experiments.benchmarks.tables import summary, tables
from experiments.lib.pages import Pages, publish
from experiments.lib.run_folder import open_run
from experiments.lib.tables import show
from experiments.lib.timing import (
    Program,
    Rates,
    compile_program,
    interleave,
    machine_rates,
    resident_mib,
)
from experiments.peers.record import Peer
from experiments.peers.torch import torch_runs

AGREES = 1e-3  # relative error of a float32 gradient that counts as the same one
GRID = (
    Size(50, 20, 2, 50),
    Size(100, 32, 64, 128),
    Size(100, 64, 256, 256),
    Size(784, 64, 1, 128),
    Size(1000, 16, 32, 64),
    Size(50, 128, 256, 512),
)
RESIDENT = (GRID[3], GRID[5])  # each contender in a process of its own
OURS = ("manual", "autodiff")


@dataclass(frozen=True)
class Config:
    """Time, memory and accuracy of the gradient, against autodiff and the peers."""

    cell: tuple[Literal["elman", "lstm", "gru"], ...] = ("elman", "lstm", "gru")
    """Cells to measure."""
    seconds: float = 10
    """Time for the gradients of a cell and size; at least 5 rounds are run."""
    quick: bool = False
    """Only the sizes that take under 20 ms, for at most two seconds each, and the
    gradient alone: no forward pass, resident memory, sweeps or studies."""
    out: Path | None = None
    """Run folder; by default the next free runs/benchmarks-N."""


def agreement(problem: Problem) -> tuple[dict[str, Peer], dict[str, float]]:
    """The JAX contenders that agree with float64, and every contender's error."""
    wanted = reference(problem)
    contenders = jax_contenders(problem.cell, problem.size)
    errors = {n: gradient_error(problem, p, wanted) for n, p in contenders.items()}
    if find_spec("torch"):
        _, gradient = torch_runs(problem.cell, *problem[2:])
        grads = gradient()[1]
        w_ih, w_hh, b = (
            grads[f"{n}_l0"] for n in ("weight_ih", "weight_hh", "bias_ih")
        )
        errors["torch"] = largest_error(jaxrnn.Params(w_ih.T, w_hh.T, b), wanted)
    agreed = {n: p for n, p in contenders.items() if errors[n] < AGREES}
    return agreed, errors


def gradients(
    problem: Problem, peers: dict[str, Peer], torch: bool
) -> dict[str, Program]:
    """Every contender's gradient, and two of them with the batch split."""
    programs = {n: gradient_program(problem, p) for n, p in peers.items()}
    rivals = {n: programs[n] for n in peers if n not in OURS}
    split = ["manual"]
    if rivals:
        probe = interleave(rivals, seconds=0.0, least=3)
        split.append(min(probe, key=lambda n: np.median(probe[n])))
    if len(jax.devices()) > 1 and problem.size.b % 2 == 0:
        for name in split:
            programs[f"{name}, split"] = compile_program(
                split_gradient(peers[name], 2), *arguments(problem, peers[name])
            )
    if torch:
        programs["torch"] = Program(torch_runs(problem.cell, *problem[2:])[1])
    return programs


def forwards(
    problem: Problem, peers: dict[str, Peer], torch: bool
) -> dict[str, Program]:
    """Every contender's error alone."""
    programs = {
        n: compile_program(error(p), *arguments(problem, p)) for n, p in peers.items()
    }
    if torch:
        programs["torch"] = Program(torch_runs(problem.cell, *problem[2:])[0])
    return programs


def floor_ms(problem: Problem, rates: Rates) -> float:
    """What the gradient takes at best on this machine.

    Products: h W_s, δ W_sᵀ and hᵀδ; x W_x and xᵀδ. Bytes: xs twice; w once; every part
    of the state written and read once.
    """
    rows = problem.size.t * problem.size.b
    (d, h), wide = problem.size[2:], problem.params.w_s.shape[1]
    flops = 2 * rows * wide * (3 * h + 2 * d)
    parts = len(CELLS[problem.cell]().initial_state(problem.params))
    moved = 4 * rows * (2 * d + h + 2 * h * parts)
    return 1e3 * max(flops / rates.flops, moved / rates.bytes)


def compared(times: dict[str, Any], to: str = "manual") -> dict[str, dict[str, Any]]:
    """Median times, and the median of each round's ratio with its spread."""
    rows = {}
    for name, seconds in times.items():
        ratios = seconds / times[to]
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
    """The rows of one cell and size, one a contender."""
    problem = pose(cell, size)
    peers, errors = agreement(problem)
    torch = errors.get("torch", AGREES) < AGREES
    programs = gradients(problem, peers, torch)
    seconds = min(2, config.seconds) if config.quick else config.seconds
    found = compared(interleave(programs, seconds))
    forward = {}
    if not config.quick:
        forward = compared(
            interleave(forwards(problem, peers, torch), config.seconds / 4)
        )
    about = {"cell": cell, "size": list(size)}
    rows = []
    for name in errors | programs:
        row = about | {"contender": name, "error": errors.get(name.split(",")[0])}
        if name in programs:
            row |= found[name] | {
                "compile_seconds": programs[name].compile_seconds,
                "temporary_mib": programs[name].temporary_mib,
            }
        if name in forward:
            row |= {"forward_ms": forward[name]["ms"]}
            row |= {"forward_ratio": forward[name]["ratio"]}
        if name in forward and size in RESIDENT:
            row |= {"resident_mib": resident_mib(contender_program, cell, size, name)}
        rows.append(row)
    floor = floor_ms(problem, rates)
    ratio = floor / found["manual"]["ms"]
    return [*rows, about | {"contender": "floor", "ms": floor, "ratio": ratio}]


def main(config: Config) -> dict[str, Any]:
    """Measure, print and write everything."""
    console = Console()
    out = open_run(config.out, "benchmarks", asdict(config))
    rates = machine_rates()
    sizes = GRID[:2] if config.quick else GRID
    jobs = [(cell, size) for cell in config.cell for size in sizes]
    results: dict[str, Any] = {
        "rates": {
            "product, GFLOP": rates.flops / 1e9,
            "copy, GB": rates.bytes / 1e9,
        },
        "grid": [
            row
            for cell, size in track(jobs, "measuring the grid", console=console)
            for row in measure(cell, size, config, rates)
        ],
    }
    publish(out, results, PAGES)
    if not config.quick:
        studies = beyond.studies(config.cell)
        for name, study in track(studies.items(), "sweeps, studies", console=console):
            results[name] = study()
            publish(out, results, PAGES)
    show(console, [summary(results["grid"])])
    console.print(f"written to {out}/")
    return results


PAGES = Pages(tables, draw)
