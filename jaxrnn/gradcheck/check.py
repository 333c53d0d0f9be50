"""Manual gradients against reverse AD, forward AD and finite differences, per leaf.

    reverse      ∂E/∂θ by `jax.grad` of the autodiff path, element by element
    forward      ⟨∂E/∂θ, v⟩ against `jax.jvp` of the autodiff path along v
    differences  ⟨∂E/∂θ, v⟩ against (E(θ + hv) - E(θ - hv)) / 2h, in float64
    adjoint      ⟨λ, J v⟩ = ⟨Jᵀ λ, v⟩, J v by forward AD and Jᵀ λ by hand

The last three take random directions v in one leaf at a time, so that an error in a
small leaf is not hidden by a large one, and the cost does not grow with the leaf. A
network's gradient is compared with other derivations as well: see `derivations`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.gradcheck.derivations import further
from jaxrnn.gradcheck.report import GradientReport, compare, leaf_name
from jaxrnn.networks import Network

_DIRECTIONS = 8


def check_gradients(
    f_or_network: Callable[..., Array] | Network,
    params: Any,
    *batch: Any,
    dtype: Any = None,
    seed: int = 0,
) -> GradientReport:
    """Compare the manual gradient with everything that it should equal, per leaf.

    Args:
        f_or_network: a `Network`, whose `gradients(params, *batch)` is checked against
            its `error`, by the ways of `derivations`, and step by step; or a function
            `f(params, *batch, gradient=...) -> E` that hands `gradient` to
            `unroll`.
        batch: what follows params there; floating arrays are cast to `dtype`.
        dtype: what the gradients are computed in, float64 by default (with x64 on for
            this call alone). The differences are always in float64.
        seed: of the random directions.
    Returns: a `GradientReport`, one row per leaf and reference. Tolerances: 1e-10, and
             1e-6 for differences; in another dtype a rounding budget of 1e3 eps. The
             truncated gradient is shown and not judged.
    Raises:  TypeError for anything else than a Network or a callable; ValueError for
             another dtype than float32 or float64, if the error is not a finite scalar,
             or if it does not change with params at all.
    Source:  the adjoint identity as in Griewank & Walther (2008), "Evaluating
             Derivatives", §3.3.
    """
    if not isinstance(f_or_network, Network) and not callable(f_or_network):
        raise TypeError(
            "f_or_network: expected a jaxrnn.Network or a function, "
            f"got {type(f_or_network).__name__}"
        )
    dtype = np.dtype(np.float64 if dtype is None else dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype: expected float32 or float64, got {dtype}")
    with jax.enable_x64(True):
        params, batch = _cast((params, batch), dtype)
        wide_error = _paths(f_or_network, _cast(batch, jnp.float64)).error
        report = _report(_paths(f_or_network, batch), wide_error, params, seed)
        if not isinstance(f_or_network, Network):
            return report
        comparisons, steps, left_out = further(f_or_network, params, batch)
        return replace(
            report,
            comparisons=report.comparisons + comparisons,
            steps=steps,
            left_out=left_out,
        )


class _Paths(NamedTuple):
    """What is compared, as functions of the parameters."""

    manual: Callable[[Any], tuple[Array, Any]]  # E, and ∂E/∂params by hand
    error: Callable[[Any], Array]  # E, its gradient JAX's own
    outputs: Callable[[Any, str], Any]  # what λ pairs with, its gradient as named


def _paths(f_or_network: Any, batch: tuple[Any, ...]) -> _Paths:
    f = f_or_network
    if isinstance(f, Network):
        inputs = (batch[0], *batch[2:3])  # xs and, if given, the state
        return _Paths(
            manual=lambda p: f.gradients(p, *batch),
            error=lambda p: f.error(p, *batch, gradient="autodiff"),
            outputs=lambda p, gradient: f.apply(p, *inputs, gradient=gradient),
        )
    return _Paths(
        manual=jax.value_and_grad(lambda p: f(p, *batch, gradient="manual")),
        error=lambda p: f(p, *batch, gradient="autodiff"),
        outputs=lambda p, gradient: f(p, *batch, gradient=gradient),
    )


def _report(
    paths: _Paths,
    wide_error: Callable[[Any], Array],
    params: Any,
    seed: int,
) -> GradientReport:
    shape = jax.eval_shape(paths.error, params).shape
    if shape != ():
        raise ValueError(f"E: expected a scalar, got shape {shape}")
    value, manual = jax.jit(paths.manual)(params)
    if not jnp.isfinite(value):
        raise ValueError(f"E: expected a finite scalar, got {value}")
    reverse = jax.jit(jax.grad(paths.error))(params)
    if not any(np.any(g) for g in jax.tree.leaves(reverse)):
        raise ValueError("E: expected it to depend on params, but its gradient is 0")

    rng = np.random.default_rng(seed)
    outputs = jax.eval_shape(lambda p: paths.outputs(p, "autodiff"), params)
    adjoint = _random_like(rng, outputs)
    pulled = _pull(paths, params, adjoint)

    @jax.jit
    def forward(v):
        return jax.jvp(paths.error, (params,), (v,))[1]

    @jax.jit
    def push(v):  # J v
        return jax.jvp(lambda p: paths.outputs(p, "autodiff"), (params,), (v,))[1]

    differences = _differences(wide_error, params)

    rows = []
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    for i, (path, leaf) in enumerate(leaves):
        if leaf.size == 0:  # such as a W_s without columns: nothing to compare
            continue
        name = leaf_name(path)
        by_hand, by_pull = [], []
        found = {"forward": [], "differences": [], "adjoint": []}
        for _ in range(_DIRECTIONS):
            parts = [np.zeros(p.shape, p.dtype) for _, p in leaves]
            parts[i] = _random_like(rng, leaf)
            v = jax.tree.unflatten(tree, parts)
            by_hand.append(_inner(manual, v))
            by_pull.append(_inner(pulled, v))
            found["forward"].append(forward(v))
            found["differences"].append(differences(v))
            found["adjoint"].append(_inner(adjoint, push(v)))
        row = partial(compare, name, leaf.dtype)
        rows.append(
            row("reverse", jax.tree.leaves(manual)[i], jax.tree.leaves(reverse)[i])
        )
        for against, reference in found.items():
            ours = by_pull if against == "adjoint" else by_hand
            rows.append(row(against, np.array(ours), np.array(reference)))
    return GradientReport(str(leaves[0][1].dtype), tuple(rows))


def _pull(paths: _Paths, params: Any, adjoint: Any) -> Any:
    """Jᵀ λ by hand."""

    @jax.jit
    def pull(params):
        _, vjp = jax.vjp(lambda p: paths.outputs(p, "manual"), params)
        return vjp(adjoint)[0]

    return pull(params)


def _differences(error: Callable[[Any], Array], params: Any):
    """Central differences of E along v, in float64, stepped to the leaf's size."""
    params = _cast(params, jnp.float64)
    error = jax.jit(error)

    def along(v):
        # The leaf's own size; cbrt(eps) balances truncation, h², and rounding, eps/h.
        moved = jax.tree.map(lambda p, d: p if np.any(d) else 0 * p, params, v)
        h = 6e-6 * max(1, _inner(moved, moved) ** 0.5) / _inner(v, v) ** 0.5
        ahead, behind = (
            float(error(jax.tree.map(partial(_moved, by=by), params, v)))
            for by in (h, -h)
        )
        return (ahead - behind) / (2 * h)

    return along


def _moved(p: Array, d: np.ndarray, *, by: float) -> Array:
    return p + by * d.astype(p.dtype)


def _cast(tree: Any, dtype: Any) -> Any:
    """Every floating leaf in this dtype; the others as they are."""

    def cast(a):
        a = jnp.asarray(a)
        return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    return jax.tree.map(cast, tree)


def _random_like(rng: np.random.Generator, tree: Any) -> Any:
    return jax.tree.map(lambda a: rng.standard_normal(a.shape).astype(a.dtype), tree)


def _inner(a: Any, b: Any) -> float:
    """⟨a, b⟩ over all leaves, in float64."""

    def inner(a, b):
        return np.vdot(np.asarray(a, np.float64), np.asarray(b, np.float64))

    return float(sum(jax.tree.leaves(jax.tree.map(inner, a, b))))
