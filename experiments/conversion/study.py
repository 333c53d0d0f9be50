"""How nearly a converted network equals the one it came from, in each library.

    python -m experiments.conversion

For each library that is installed, each of its cells, with and without a bias, with
and without lengths (where it takes them), from a random initial state: the largest
relative difference ‖ours - theirs‖ / ‖theirs‖ of an output or final state, and of a
gradient (all weights in the library's own layout, inputs, initial state; ours by hand),
in float32 and float64 (Keras in float32 alone). ONNX's own evaluator has no gradient:
there, central differences of it in float64 are what ours is compared with.
"""

from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

import jaxrnn
from experiments.lib.pages import Pages, publish
from experiments.lib.run_folder import Run, open_run
from experiments.lib.tables import Table, number, show
from experiments.peers import LIBRARIES, peer_of
from experiments.peers.record import (
    KINDS,
    Peer,
    Results,
    Sample,
    Sizes,
    by_jax,
    results_of,
)
from jaxrnn.gradcheck import relative_errors

DTYPES = ("float32", "float64")
COLUMNS = tuple(f"{what} {dtype}" for dtype in DTYPES for what in ("hs", "gradient"))


@dataclass(frozen=True)
class Config:
    """How nearly a converted network equals the one it came from."""

    library: tuple[str, ...] = tuple(LIBRARIES)
    """Libraries to compare with; one that is not installed is left out."""
    kind: tuple[str, ...] = KINDS
    """Kinds of network."""
    steps: int = 20
    """T, the length of the sequences."""
    rows: int = 4
    """B, how many sequences."""
    inputs: int = 5
    """D, features of an input."""
    units: int = 8
    """H, units of a layer."""
    out: Path | None = None
    """Run folder; by default the next free runs/conversion-N."""


def sample_for(params: Any, layer: Any, steps: int, rows: int, lengths: bool) -> Sample:
    """Random inputs, state and pulls for a network with these parameters."""
    rng = np.random.default_rng(11)
    first = jax.tree.leaves(params)[0]
    draw = lambda *shape: rng.normal(size=shape).astype(first.dtype)  # noqa: E731
    start = jax.eval_shape(lambda: layer.initial_state(params, (rows,)))
    parts = jax.tree.leaves(start)
    xs = draw(steps, rows, first.shape[0])
    hs, _ = jax.eval_shape(partial(jaxrnn.unroll, layer), params, xs)
    return Sample(
        xs,
        tuple(draw(*part.shape) for part in parts),
        np.linspace(steps, 1, rows).astype(np.int32) if lengths else None,
        draw(*hs.shape),
        tuple(draw(*part.shape) for part in parts),
    )


def our_results(network: Peer, sample: Sample) -> Results:
    """The converted network's, the gradient by hand and then through the conversion."""

    def run(weights, xs, state, lengths):
        layer, params = network.read(weights)
        like = jax.eval_shape(lambda: layer.initial_state(params, xs.shape[1:2]))
        start = jax.tree.unflatten(jax.tree.structure(like), state)
        hs, final = jaxrnn.unroll(layer, params, xs, start, lengths=lengths)
        return hs, jax.tree.leaves(final)

    return by_jax(run)(network.weights, sample)


def compare(network: Peer, steps: int, rows: int, lengths: bool) -> dict[str, float]:
    """The difference of each output and of each gradient, by its name."""
    layer, params = network.read(network.weights)
    sample = sample_for(params, layer, steps, rows, lengths)
    wanted = results_of(network, sample)
    return relative_errors(our_results(network, sample), wanted)


def largest(found: dict[str, float]) -> tuple[float, float]:
    """Of outputs and final states, and of gradients."""
    gradient = {name for name in found if name.startswith("d_")}
    return (
        max(found[name] for name in found.keys() - gradient),
        max(found[name] for name in gradient),
    )


def measure(config: Config, library: str, kind: str) -> list[float] | None:
    """A row of the table; None where the library has no such network."""
    row, sizes = [], Sizes(config.inputs, config.units)
    for dtype in DTYPES:
        worst: list[tuple[float, float]] = []
        for bias, lengths in product((True, False), repeat=2):
            with jax.enable_x64(dtype == "float64"):
                network = peer_of(library, kind, sizes, bias, dtype)
                if network is None or (lengths and not network.lengths):
                    continue
                found = compare(network, config.steps, config.rows, lengths)
            worst.append(largest(found))
        row += np.max(worst, axis=0).tolist() if worst else [float("nan")] * 2
    return None if np.isnan(row).all() else row


def tables(run: Run) -> list[Table]:
    """The largest differences, a row a library and kind."""
    rows = [
        [library, kind, *(number(e, ".1e") for e in row)]
        for library, of_kinds in run.results.items()
        for kind, row in of_kinds.items()
    ]
    title = "largest relative difference to each library"
    return [Table(title, ("library", "kind", *COLUMNS), rows)]


PAGES = Pages(tables)


def main(config: Config) -> dict[str, dict[str, list[float]]]:
    """Print and write the largest differences by library and kind; return them."""
    console, rows = Console(), {}
    out = open_run(config.out, "conversion", asdict(config))
    jobs = list(product(config.library, config.kind))
    for library, kind in track(jobs, "comparing", console=console):
        row = measure(config, library, kind)
        if row is not None:
            rows.setdefault(library, {})[kind] = row
    show(console, tables(publish(out, rows, PAGES)))
    return rows
