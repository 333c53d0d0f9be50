"""A network's gradient by other derivations than reverse and forward differentiation.

    rtrl           carried forward in time, with JAX's derivative of the step
    scan           all λ_t at once by an associative scan of the steps' Jacobians
    truncated K    BPTT through K steps, shown without a tolerance; it equals the
                   gradient if the sequence has at most K steps

All are of the cell's parameters, since the readout does not act through time.
"""

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import online, parallel
from jaxrnn._core.door import as_layer
from jaxrnn._core.folded import size_of
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.marks import live_only, make_marks
from jaxrnn._core.numerics import real_only
from jaxrnn.gradcheck.programs import Point, Programs, jit_quick
from jaxrnn.gradcheck.report import by_leaf
from jaxrnn.networks import Network

DERIVATIONS = ("rtrl", "scan", "truncated")
TRUNCATED = 10  # steps, as far as a plain network sees by the seed
_LARGEST = 2e7  # largest array of a derivation, 160 MB in float64
_EDGES = ("lengths", "resets", "reset_to", "noise")


class Derivations(NamedTuple):
    """Gradients by leaf, by the reference, and those left out, with reasons."""

    found: dict[str, dict[str, Any]]
    left_out: tuple[str, ...]


def derivations(
    net: Network,
    made: Programs,
    point: Point,
    static: dict[str, Any],
    against: tuple[str, ...],
) -> Derivations:
    """The gradient of the cell's parameters by each of `against`."""
    params, given = point
    xs, _, *rest = given.batch
    wanted = [name for name in DERIVATIONS if name in against]
    if not wanted:
        return Derivations({}, ())
    layer = as_layer(net.cell)
    state = rest[0] if rest and rest[0] is not None else None
    steps, *batch = axes_of(layer.x_ndim, xs)
    start = layer.initial_state(params.cell, batch) if state is None else state
    edges = {k: a for k, a in given.arrays.items() if k in _EDGES}
    reverse = static.get("reverse", False)
    run = partial(_run, net.cell, reverse)
    starts = _makes_the_start(net.cell, params.cell, xs) if state is None else set()
    d_hs = made.cotangents(params, given)
    found, left_out, window = {}, [], min(TRUNCATED, steps)
    for name in wanted:
        shown = f"truncated {window}" if name == "truncated" else name
        why = _left_out(name, layer, params.cell, (steps, *batch), edges, reverse)
        if why:
            left_out.append(f"{shown}: {why}")
            continue
        reference = run(name, window)(params.cell, xs, start, d_hs, edges)
        found[shown] = {
            f"cell.{leaf}": d
            for leaf, d in by_leaf(reference).items()
            if d.size and leaf not in starts
        }
    return Derivations(found, tuple(left_out))


def _left_out(name, layer, params, axes, edges, reverse) -> str | None:
    """The reason why a derivation is left out, or None."""
    steps, rows = axes[0], math.prod(axes[1:])
    size = size_of(jax.eval_shape(layer.initial_state, params))
    count = sum(p.size for p in jax.tree.leaves(params))
    numbers = {
        "rtrl": rows * size * count,
        "scan": steps * rows * size**2,
        "truncated": min(TRUNCATED, steps) * rows * size,
    }[name]
    if name != "scan" and (layer.runs_backward or reverse):
        return "the layer runs backward in time"
    if name != "scan" and set(edges) - {"lengths"}:
        return f"it does not take {' or '.join(sorted(set(edges) - {'lengths'}))}"
    if numbers > _LARGEST:
        return f"it would hold {numbers:.1e} numbers"
    return None


@lru_cache(maxsize=64)
def _run(cell: Any, reverse: bool, name: str, steps: int) -> Any:
    """A compiled function of (params, xs, state, ∂E/∂hs, edges)."""

    def forward(method, params, xs, state, d_hs, edges):
        # Past a row's length there is no error, and nothing goes back from there.
        marks = make_marks(axes_of(as_layer(cell).x_ndim, xs), edges.get("lengths"))
        xs, d_hs = live_only(marks, xs), live_only(marks, d_hs)
        return online.gradient(method, params, xs, state, d_hs)

    def scan(params, xs, state, d_hs, edges):
        options = {"noise": None, "reverse": reverse} | edges
        d = parallel.bptt(cell, params, xs, state, d_hs, **options)
        return d.params

    if name == "scan":
        return jit_quick(scan)
    if name == "rtrl":
        return jit_quick(partial(forward, online.rtrl(cell, gradient="autodiff")))
    return jit_quick(partial(forward, online.truncated(cell, 1, steps)))


def _makes_the_start(cell: Any, params: Any, xs: Any) -> set[str]:
    """Names of the parameters that make a learned start, which these derivations do not
    cover, since they are given the start."""
    layer = as_layer(cell)
    batch = axes_of(layer.x_ndim, xs)[1:]
    start, pull = jax.vjp(lambda p: real_only(layer.initial_state(p, batch)), params)
    (d_params,) = pull(jax.tree.map(jnp.ones_like, start))
    return {name for name, d in by_leaf(d_params).items() if np.asarray(d).any()}
