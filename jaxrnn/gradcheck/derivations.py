"""A network's gradient by other derivations than reverse and forward differentiation.

    rtrl           carried forward in time, the step's derivative JAX's own
    scan           all λ_t at once by an associative scan of the steps' Jacobians
    truncated K    BPTT through K steps, shown and not judged: how far it is from the
                   gradient, which it is where the sequence has no more than K steps
    ∂E/∂x_t        step by step, by hand against reverse differentiation

The first three are of the cell's parameters: the readout has no way through time.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import online, parallel
from jaxrnn._core.door import as_layer
from jaxrnn._core.folded import size_of
from jaxrnn.gradcheck.report import Comparison, compare, leaf_name
from jaxrnn.networks import Network

TRUNCATED = 10  # steps, as many as the seed says that a plain network sees
_LARGEST = 2e7  # numbers that a derivation may hold, 160 MB in float64


def further(
    net: Network, params: Any, batch: tuple[Any, ...]
) -> tuple[tuple[Comparison, ...], tuple[Comparison, ...], tuple[str, ...]]:
    """Comparisons by leaf, comparisons by step, and what was left out and why."""
    xs, targets, *rest = batch
    layer = as_layer(net.cell)
    state = rest[0] if rest else layer.initial_state(params.cell, xs.shape[1:-1])
    run = net.cell, params.cell, xs, state
    steps = _by_step(net, params, (xs, targets, *rest))
    _, d_hs = net.cotangents(params, xs, targets, *rest)
    made, left_out = {}, []
    for name, (make, numbers) in _derivations(*run).items():
        if name != "scan" and layer.runs_backward:
            left_out.append(f"{name}: the layer runs backward in time")
        elif numbers > _LARGEST:
            left_out.append(f"{name}: it would hold {numbers:.1e} numbers")
        else:
            made[name] = jax.jit(make)(params.cell, xs, state, d_hs)
    _, manual = net.gradients(params, *batch)
    starts = _makes_the_start(net.cell, params.cell, xs) if not rest else set()
    rows = [
        compare(f"cell.{leaf_name(path)}", leaf.dtype, name, leaf, theirs)
        for name, reference in made.items()
        for (path, leaf), theirs in zip(
            jax.tree.leaves_with_path(manual.cell),
            jax.tree.leaves(reference),
            strict=True,
        )
        if leaf.size and leaf_name(path) not in starts
    ]
    return tuple(rows), steps, tuple(left_out)


def _derivations(cell: Any, params: Any, xs: Any, state: Any) -> dict[str, Any]:
    """By name: a function of (params, xs, state, ∂E/∂hs), and the numbers it holds."""
    rows, size = math.prod(xs.shape[1:-1]), size_of(state)
    count = sum(p.size for p in jax.tree.leaves(params))
    length, steps = len(xs), min(TRUNCATED, len(xs))

    def rtrl(params, xs, state, d_hs):
        return online.gradient(
            online.rtrl(cell, gradient="autodiff"), params, xs, state, d_hs
        )

    def scan(params, xs, state, d_hs):
        return parallel.bptt(cell, params, xs, state, d_hs).params

    def truncated(params, xs, state, d_hs):
        method = online.truncated(cell, 1, steps)
        return online.gradient(method, params, xs, state, d_hs)

    return {
        "rtrl": (rtrl, rows * size * count),
        "scan": (scan, length * rows * size**2),
        f"truncated {steps}": (truncated, steps * rows * size),
    }


def _makes_the_start(cell: Any, params: Any, xs: Any) -> set[str]:
    """Names of the parameters that a learned start is made of: a run that is given its
    start, as these derivations are, does not say what they do."""
    layer = as_layer(cell)
    start, pull = jax.vjp(lambda p: layer.initial_state(p, xs.shape[1:-1]), params)
    (d_params,) = pull(jax.tree.map(jnp.ones_like, start))
    leaves = jax.tree.leaves_with_path(d_params)
    return {leaf_name(path) for path, leaf in leaves if np.any(leaf)}


def _by_step(net: Network, params: Any, batch: Any) -> tuple[Comparison, ...]:
    """∂E/∂x_t of every step, by hand and JAX's own."""
    xs, *rest = batch

    def error(xs, gradient):
        return net.error(params, xs, *rest, gradient=gradient)

    ours, theirs = (
        np.asarray(jax.jit(jax.grad(lambda xs, g=g: error(xs, g)))(xs))
        for g in ("manual", "autodiff")
    )
    return tuple(
        compare(f"xs[{t}]", xs.dtype, "reverse", *pair)
        for t, pair in enumerate(zip(ours, theirs, strict=True))
    )
