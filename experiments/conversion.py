"""How closely a converted network agrees with the original, in each library.

    python -m experiments.conversion

For each installed library, each of its cells, with and without a bias, with and without
lengths (if it takes them), from a random initial state: the largest relative difference
‖ours - theirs‖ / ‖theirs‖ of an output or final state, and of a gradient (all weights
in the library's own layout, inputs, initial state; ours by hand), in float32 and
float64 (Keras in float32 only). ONNX's evaluator has no gradient; ours is compared with
central differences of it in float64.
"""

import math
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.progress import track

import jaxrnn
from experiments.lib.pages import Pages
from experiments.lib.run_folder import Run, open_run
from experiments.lib.tables import Table, number
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

STEPS, ROWS, SIZES = 20, 4, Sizes(5, 8)
DTYPES = ("float32", "float64")
COLUMNS = tuple(f"{what} {dtype}" for dtype in DTYPES for what in ("hs", "gradient"))


@dataclass(frozen=True)
class Config:
    library: tuple[str, ...] = tuple(LIBRARIES)
    """Libraries to compare with; those not installed are skipped."""
    kind: tuple[str, ...] = KINDS
    """Kinds of network."""
    out: Path | None = None
    """Run folder; by default the next free runs/conversion-N."""


def sample_for(params: Any, layer: Any, steps: int, rows: int, lengths: bool) -> Sample:
    """Random inputs, state and pulls for a network with these parameters."""
    rng = np.random.default_rng(11)
    first = jax.tree.leaves(params)[0]
    draw = lambda *shape: rng.normal(size=shape).astype(first.dtype)  # noqa: E731
    start = jax.eval_shape(lambda: layer.initial_state(params, (rows,)))
    state = lambda: tuple(draw(*part.shape) for part in jax.tree.leaves(start))  # noqa: E731
    xs = draw(steps, rows, first.shape[0])
    hs, _ = jax.eval_shape(partial(jaxrnn.unroll, layer), params, xs)
    ends = np.linspace(steps, 1, rows).astype(np.int32) if lengths else None
    return Sample(xs, state(), ends, draw(*hs.shape), state())


def our_results(network: Peer, sample: Sample) -> Results:
    """Results of the converted network, with the gradient in the library's layout."""

    def run(weights, xs, state, lengths):
        layer, params = network.read(weights)
        like = jax.eval_shape(lambda: layer.initial_state(params, xs.shape[1:2]))
        start = jax.tree.unflatten(jax.tree.structure(like), state)
        hs, final = jaxrnn.unroll(layer, params, xs, start, lengths=lengths)
        return hs, jax.tree.leaves(final)

    return by_jax(run, network.weights, sample)


def compare(network: Peer, steps: int, rows: int, lengths: bool) -> dict[str, float]:
    """The difference of each output and of each gradient, by name."""
    layer, params = network.read(network.weights)
    sample = sample_for(params, layer, steps, rows, lengths)
    return relative_errors(our_results(network, sample), results_of(network, sample))


def largest(found: dict[str, float]) -> list[float]:
    """The largest difference of outputs and final states, and of gradients."""
    return [
        max(error for name, error in found.items() if name.startswith("d_") == gradient)
        for gradient in (False, True)
    ]


def measure(library: str, kind: str) -> list[float] | None:
    """A row of the table; None where the library has no such network."""
    row = []
    for dtype in DTYPES:
        worst = []
        for bias, lengths in product((True, False), repeat=2):
            with jax.enable_x64(dtype == "float64"):
                network = peer_of(library, kind, SIZES, bias, dtype)
                if network is not None and (network.lengths or not lengths):
                    worst.append(largest(compare(network, STEPS, ROWS, lengths)))
        row += np.max(worst, axis=0).tolist() if worst else [math.nan] * 2
    return None if np.isnan(row).all() else row


def tables(run: Run) -> list[Table]:
    """The largest differences, one row per library and kind."""
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
    out, rows = open_run(config.out, "conversion", asdict(config)), {}
    jobs = list(product(config.library, config.kind))
    for library, kind in track(jobs, "comparing"):
        row = measure(library, kind)
        if row is not None:
            rows.setdefault(library, {})[kind] = row
    PAGES.finish(out, rows)
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
