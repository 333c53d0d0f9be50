"""Manual gradients against reverse AD, forward AD and finite differences, per leaf.

    reverse      ∂E/∂θ by `jax.grad` of the autodiff path, element by element
    forward      ⟨∂E/∂θ, v⟩ against `jax.jvp` of the autodiff path along v
    differences  ⟨∂E/∂θ, v⟩ against (E(θ + hv) - E(θ - hv)) / 2h, in float64
    adjoint      ⟨λ, J v⟩ = ⟨Jᵀ λ, v⟩, J v by forward AD and Jᵀ λ by hand

The last three take random directions v in one leaf at a time, so that an error in a
small leaf is not hidden by a large one, and the cost does not grow with the leaf. A
network's gradient is compared with other derivations as well: see `derivations`.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._core.door import as_layer
from jaxrnn._core.inputs import read_inputs
from jaxrnn._core.marks import make_marks
from jaxrnn._core.trees import describe
from jaxrnn._core.updates import read_leaves
from jaxrnn.gradcheck.derivations import DERIVATIONS, derivations
from jaxrnn.gradcheck.programs import Given, Programs, check_programs, programs
from jaxrnn.gradcheck.report import Comparison, GradientReport, compare, leaf_name
from jaxrnn.networks import Network

_DIRECTIONS = 8
_STATIC = ("chunk_size", "store", "reverse")
_ALONG = ("forward", "differences", "adjoint")
_REFERENCES = ("reverse", *_ALONG, *DERIVATIONS)


def check_gradients(
    f_or_network: Callable[..., Array] | Network,
    params: Any,
    *batch: Any,
    dtype: Any = None,
    seed: int = 0,
    against: Sequence[str] | None = None,
    **options: Any,
) -> GradientReport:
    """Compare the manual gradient with independent references, per leaf.

    Compiled programs are cached: a second call with the same function, static options,
    shapes and dtypes compiles nothing.

    Args:
        f_or_network: a `Network`, whose `gradients(params, *batch)` is checked against
            its `error` and other derivations, and step by step; or a function
            `f(params, *batch, gradient=...) -> E` that passes `gradient` to `unroll`.
        params: floating arrays [...], as the network or the function takes them.
        batch: the arguments after params; floating arrays are cast to `dtype`.
        dtype: of the gradients, float64 by default (with x64 enabled for this call
            only). The differences are always in float64.
        seed: for the random directions.
        against: the references to compare with, of "reverse", "forward",
            "differences", "adjoint", "rtrl", "scan" and "truncated"; all by default.
            At a kink leave out "differences"; with a surrogate gradient use "reverse"
            alone. "reverse" includes the rows by step.
        options: those of `Network.gradients`: lengths, resets, reset_to, reverse,
            weights, noise, chunk_size, store; or keywords of the function. A derivation
            that does not support one is left out, and the report says why.
    Returns: a `GradientReport`, one row per leaf and reference; true if all are close.
             Tolerances: 1e-10, and 1e-6 for differences; in another dtype a rounding
             budget of 1e3 eps. The truncated gradient is shown but has no tolerance.
    Raises:  TypeError if it is neither a Network nor a function of this batch, or if
             params are not floating; ValueError for a dtype other than float32 and
             float64, a seed that is not an integer >= 0, an unknown reference, a
             function that does not pass `gradient` on, or an error that is not a finite
             scalar or does not depend on params.
    Source:  the adjoint identity as in Griewank & Walther (2008), "Evaluating
             Derivatives", §3.3.
    """
    f = f_or_network
    if not isinstance(f, Network) and not callable(f):
        raise TypeError(
            "f_or_network: expected a jaxrnn.Network or a function, "
            f"got {type(f).__name__}"
        )
    dtype, against = _read_dtype(dtype), _checked(against)
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed: expected an integer of 0 or more, got {seed!r}")
    params, batch = read_leaves("params", params), read_leaves("batch", batch)
    _check_floating(params)
    static = tuple(
        sorted((k, v) for k, v in options.items() if k in _STATIC or v is None)
    )
    arrays = {k: read_leaves(k, v) for k, v in options.items() if k not in dict(static)}
    if isinstance(f, Network):  # while they are known
        if len(batch) < 2:
            raise TypeError(f"batch: expected xs and targets, got {len(batch)} of them")
        _, axes = read_inputs(as_layer(f.cell).x_ndim, batch[0])
        make_marks(axes, options.get("lengths"), options.get("resets"))
    else:
        _check_call(f, params, batch, options)
    with jax.enable_x64(True):
        params, given = _cast((params, Given(batch, arrays)), dtype)
        made = programs(f, static)
        check_programs(
            made, params, given, not {"forward", "adjoint"}.isdisjoint(against)
        )
        rows, manual = _rows(made, params, given, seed, against)
        steps, left_out = (), ()
        if isinstance(f, Network):
            found = derivations(f, made, params, given, dict(static), manual, against)
            rows, left_out = rows + found.rows, found.left_out
            if "reverse" in against:
                steps = _by_step(made, params, given)
        return GradientReport(str(dtype), rows, steps, left_out)


def _read_dtype(dtype: Any) -> np.dtype:
    try:
        read = np.dtype(np.float64 if dtype is None else dtype)
    except TypeError:
        read = None
    if read not in (np.float32, np.float64):
        raise ValueError(f"dtype: expected float32 or float64, got {dtype!r}")
    return read


def _checked(against: Sequence[str] | None) -> tuple[str, ...]:
    if against is None:
        return _REFERENCES
    names = (against,) if isinstance(against, str) else against
    names = tuple(names) if isinstance(names, Iterable) else ()
    if not names or not all(name in _REFERENCES for name in names):
        raise ValueError(f"against: expected some of {_REFERENCES}, got {against!r}")
    return names


def _check_call(f: Callable[..., Any], params: Any, batch: Any, options: Any) -> None:
    """Raise unless the function takes this batch, these options and `gradient`."""
    signature = inspect.signature(f)
    try:
        signature.bind(params, *batch, **{"gradient": "manual"} | options)
    except TypeError:
        given = ", ".join(["params", *["batch"] * len(batch), *options])
        raise TypeError(
            f"f_or_network: expected a function that takes ({given}, gradient=...), "
            f"got one of {signature}"
        ) from None


def _check_floating(params: Any) -> None:
    leaves = jax.tree.leaves_with_path(params)
    if not leaves:
        raise TypeError(f"params: expected arrays, got {describe(params)}")
    for path, leaf in leaves:
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"params.{leaf_name(path)}: expected a floating leaf, which has a "
                f"gradient, got {dtype}; give it in the batch, or close over it"
            )


def _rows(
    made: Programs, params: Any, given: Given, seed: int, against: tuple[str, ...]
) -> tuple[tuple[Comparison, ...], Any]:
    """Comparisons by leaf, and the manual gradient."""
    value, manual = made.manual(params, given)
    if not np.isfinite(value):
        raise ValueError(f"E: expected a finite scalar, got {value}")
    reverse = made.reverse(params, given)
    if not any(np.asarray(g).any() for g in jax.tree.leaves(reverse)):
        raise ValueError("E: expected it to depend on params, but its gradient is 0")

    rng = np.random.default_rng(seed)
    outputs = made.outputs.trace(params, given).out_info
    adjoint = _random_like(rng, outputs)
    pulled = made.pull(params, given, adjoint) if "adjoint" in against else None
    differences = _differences(made.error, params, given)

    rows = []
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    for i, (path, leaf) in enumerate(leaves):
        if leaf.size == 0:  # such as a W_s without columns: nothing to compare
            continue
        row = partial(compare, leaf_name(path), leaf.dtype)
        if "reverse" in against:
            pair = (jax.tree.leaves(g)[i] for g in (manual, reverse))
            rows.append(row("reverse", *pair))
        found = {name: ([], []) for name in _ALONG if name in against}
        for _ in range(_DIRECTIONS if found else 0):
            parts = [np.zeros(p.shape, p.dtype) for _, p in leaves]
            parts[i] = _random_like(rng, leaf)
            v = jax.tree.unflatten(tree, parts)
            by_hand = _inner(manual, v)
            if "forward" in found or "adjoint" in found:
                slope, moved = made.along(params, given, v)
            for name, (ours, theirs) in found.items():
                ours.append(_inner(pulled, v) if name == "adjoint" else by_hand)
                if name == "adjoint":
                    theirs.append(_inner(adjoint, moved))
                else:
                    theirs.append(slope if name == "forward" else differences(v))
        rows += [row(name, *map(np.array, pair)) for name, pair in found.items()]
    return tuple(rows), manual


def _by_step(made: Programs, params: Any, given: Given) -> tuple[Comparison, ...]:
    """∂E/∂x_t of every step, by hand and JAX's own."""
    by_hand, reverse = made.by_step(params, given)
    leaves = jax.tree.leaves_with_path(by_hand)
    return tuple(
        compare(f"xs{jax.tree_util.keystr(path)}[{t}]", a.dtype, "reverse", a, b)
        for (path, ours), theirs in zip(leaves, jax.tree.leaves(reverse), strict=True)
        for t, (a, b) in enumerate(zip(*map(np.asarray, (ours, theirs)), strict=True))
    )


def _differences(error: Any, params: Any, given: Given):
    """Central differences of E along v, in float64, with steps of the leaf's scale."""
    params, given = _cast((params, given), jnp.float64)
    params = jax.device_get(params)

    def along(v):
        # The leaf's own size; cbrt(eps) balances truncation, h², and rounding, eps/h.
        moved = jax.tree.map(lambda p, d: p if np.any(d) else 0 * p, params, v)
        h = 6e-6 * max(1, _inner(moved, moved) ** 0.5) / _inner(v, v) ** 0.5
        ahead, behind = (
            float(error(jax.tree.map(partial(_moved, by=by), params, v), given))
            for by in (h, -h)
        )
        return (ahead - behind) / (2 * h)

    return along


def _moved(p: np.ndarray, d: np.ndarray, *, by: float) -> np.ndarray:
    return p + by * d.astype(p.dtype)


def _cast(tree: Any, dtype: Any) -> Any:
    """Every floating leaf in this dtype; the others as they are."""

    def cast(a):
        if isinstance(a, Array) and jnp.issubdtype(a.dtype, jax.dtypes.extended):
            return a
        a = np.asarray(a)  # by NumPy, which compiles nothing
        return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    return jax.device_put(jax.tree.map(cast, tree))


def _random_like(rng: np.random.Generator, tree: Any) -> Any:
    return jax.tree.map(lambda a: rng.standard_normal(a.shape).astype(a.dtype), tree)


def _inner(a: Any, b: Any) -> float:
    """⟨a, b⟩ over all leaves, in float64."""

    def inner(a, b):
        return np.vdot(np.asarray(a, np.float64), np.asarray(b, np.float64))

    return float(sum(jax.tree.leaves(jax.tree.map(inner, a, b))))
