"""What each lag contributes to the gradient, and the bias from leaving out far ones.

The gradient is a sum over the time t of an error and the step k where the parameters
act on it (equations 59 and 60, summed over N). By lag ℓ = t - k:

    ∂E/∂W_s = Σ_ℓ C_ℓ      C_ℓ = Σ_t h_{t-ℓ-1}ᵀ δ_{t-ℓ}(t)

with δ_k(t) from the error of step t alone. One backward sweep gives all lags: it
carries the adjoints of L errors side by side, one lag further at each step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.checks import as_array, check_within
from jaxrnn._core.door import as_layer, enter
from jaxrnn._core.folded import vjp_step
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.marks import (
    Marks,
    live_only,
    make_marks,
    states_before,
    where_live,
)
from jaxrnn._core.numerics import global_norm, real_only, widen
from jaxrnn.backprop import bptt, filled
from jaxrnn.cell import Cell
from jaxrnn.gradient_flow.alignment import Alignment, alignment
from jaxrnn.layer import Layer
from jaxrnn.model import unroll


class LagNorms(NamedTuple):
    """Norms by lag, arrays [L], for the lags 0..L-1.

    params: of each lag's contribution to the gradient of each parameter.
    adjoints: of ∂E_t/∂s_{t-lag}, over all t, rows and parts of the state. For a layer,
        whose outputs need not be part of its state, lag 0 includes ∂E_t/∂h_t.
    """

    params: Any
    adjoints: Array


class _Sweep(NamedTuple):
    """The inputs of a sweep over lags."""

    params: Any
    xs: Any
    state: Any
    restart: Any
    lengths: Any
    resets: Any
    cotangents: Any
    final: Any


def lag_norms(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any = None,
    cotangents: Array | None = None,
    *,
    final: Any = None,
    lags: int | None = None,
    lengths: Any = None,
    resets: Any = None,
) -> LagNorms:
    """How much each lag contributes to the gradient.

    Math:    ‖C_ℓ‖ of C_ℓ = Σ_t ∂E_t/∂s_{t-ℓ} · ∂⁺s_{t-ℓ}/∂θ, for every leaf θ; and
             ‖∂E_t/∂s_{t-ℓ}‖. Σ_ℓ C_ℓ is the gradient.
    Shapes:  xs [T, ..., D], state parts [..., H] -> arrays [L].
    Args:
        cell, params: as in `unroll`.
        cotangents: ∂E/∂hs [T, ..., H], for errors at every step; None if there is only
            the error of `final`, for which one ordinary backward sweep is enough.
        final: ∂E/∂ the final state, parts [..., H], for an error at the last step, or
            at each row's length; zeros by default.
        lags: L, the number of lags to follow; T by default.
        lengths, resets: as in `unroll`.
    Returns: `LagNorms`.
    Cost:    with `final` alone, one sweep of T steps with the memory of one step. With
             an error at every step (or lengths), L sweeps side by side: L times the
             work of a backward pass, memory for L gradients and L adjoints.
    Raises:  ValueError or TypeError, at trace time, as `unroll` does; if there is no
             step or no error, for lags outside 1..T, or for a layer with a backward
             direction.
    Source:  Pascanu et al. (2013), arXiv 1211.5063, equations 3-5, their temporal
             contributions.
    """
    inputs = _checked(cell, params, xs, state, cotangents, final, lengths, resets)
    return _lag_norms(cell, _count(lags, _steps(inputs)), inputs)


def truncation_bias(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any = None,
    cotangents: Array | None = None,
    *,
    final: Any = None,
    lags: int | None = None,
    lengths: Any = None,
    resets: Any = None,
) -> Alignment:
    """What truncated BPTT loses, for every truncation length K at once.

    Math:    G_K = Σ_{ℓ<K} C_ℓ: every error is sent back through K steps, including its
             own. G = G_T is the whole gradient, by `bptt`.
    Args:
        cell, params, xs, state, cotangents, final, lengths, resets: as in `lag_norms`.
        lags: the largest K.
    Returns: the `Alignment` of each G_K with G over all parameters together, arrays
             [L] for K = 1..L; NaN where the gradient is zero.
    Cost:    as `lag_norms`.
    Raises:  as `lag_norms`.
    Source:  Williams & Peng (1990), Neural Computation 2, 490-501, BPTT(h).
    """
    inputs = _checked(cell, params, xs, state, cotangents, final, lengths, resets)
    return _truncation(cell, _count(lags, _steps(inputs)), inputs)[0]


def bias_and_adjoints(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any,
    cotangents: Any,
    *,
    final: Any,
    lags: int,
    lengths: Any,
    resets: Any,
) -> tuple[Alignment, Array]:
    """`truncation_bias`, and the adjoints of `lag_norms`, in one sweep."""
    inputs = _checked(cell, params, xs, state, cotangents, final, lengths, resets)
    return _truncation(cell, lags, inputs)


def _count(lags: int | None, steps: int) -> int:
    if lags is None:
        return steps
    check_within("lags", lags, 1, steps)
    return int(lags)


def _steps(inputs: _Sweep) -> int:
    return len(jax.tree.leaves(inputs.xs)[0])


def _checked(cell, params, xs, state, cotangents, final, lengths, resets) -> _Sweep:
    layer = as_layer(cell)
    edges = {"lengths": lengths, "resets": resets}
    carrier, _, xs = enter(layer, params, xs, state, noise=None, **edges)
    state = carrier.state
    if axes_of(layer.x_ndim, xs)[0] == 0:
        raise ValueError("xs: expected at least one step, got none")
    if cotangents is None and final is None:
        raise ValueError("cotangents and final: expected one of them, got neither")
    if cotangents is not None:
        run = partial(unroll, layer, noise=None)
        hs, _ = jax.eval_shape(run, params, xs, state)
        cotangents = real_only(filled("cotangents", cotangents, hs))
    final = real_only(filled("final", final, state))
    lengths, resets = (
        None if value is None else as_array(name, value, allow_lists=True)
        for name, value in edges.items()
    )
    at = params, xs, state, carrier.restart
    return _Sweep(*at, lengths, resets, cotangents, final)


@partial(jax.jit, static_argnums=(0, 1))
def _lag_norms(cell, lags, inputs):
    def norms(carry, contribution):
        return carry, jax.tree.map(global_norm, contribution)

    return LagNorms(*_by_lag(cell, lags, inputs, norms, None))


@partial(jax.jit, static_argnums=(0, 1))
def _truncation(cell, lags, inputs):
    params, xs, state, _, lengths, resets, cotangents, final = inputs
    edges = {"lengths": lengths, "resets": resets, "noise": None}
    whole = bptt(cell, params, xs, state, cotangents, final=final, **edges).params
    whole = jax.tree.map(widen, whole)

    def compare(partly, contribution):
        partly = jax.tree.map(jnp.add, partly, contribution)
        return partly, alignment(partly, whole)

    nothing = jax.tree.map(jnp.zeros_like, whole)
    return _by_lag(cell, lags, inputs, compare, nothing)


def _by_lag(
    cell: Cell | Layer,
    lags: int,
    inputs: _Sweep,
    fold: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
) -> tuple[Any, Array]:
    """Scan `fold(carry, C_ℓ) -> (carry, out)` over the lags; outs, adjoint norms."""
    params, xs, state, restart, lengths, resets, cotangents, final = inputs
    marks = make_marks(axes_of(as_layer(cell).x_ndim, xs), lengths, resets)
    edges = {"lengths": lengths, "resets": resets, "noise": None}
    states, _ = unroll(cell, params, xs, state, return_states=True, **edges)
    before = states_before(state, states)
    pull = partial(_pull_step, cell, params, restart)
    steps = (xs, before, marks)

    if cotangents is None and lengths is None:  # one error: each step is one lag

        def one_lag(carry, step):
            adjoint, carry = carry
            d_params, before = pull(step, None, adjoint)
            carry, out = fold(carry, jax.tree.map(widen, d_params))
            return (before, carry), (out, global_norm(adjoint))

        last = jax.tree.map(lambda a: a[_steps(inputs) - lags :], steps)
        _, found = lax.scan(one_lag, (final, carry), last, reverse=True)
        return jax.tree.map(lambda a: a[::-1], found)

    # ∂E_{k+ℓ}/∂s_k for every ℓ: the errors of later steps, side by side
    adjoints = jax.tree.map(lambda a: _first_of(lags, a), final)
    sums = jax.tree.map(
        lambda p: jnp.zeros((lags, *p.shape), widen(p).dtype), real_only(params)
    )

    def one_step(carry, step):
        adjoints, sums = carry
        *step, direct = step
        direct = live_only(step[-1], direct)
        d_hs = jax.tree.map(partial(_first_of, lags), direct)
        if d_hs is not None and isinstance(cell, Cell):  # a cell's output is its h
            h, *others = adjoints
            adjoints, d_hs = type(adjoints)(h + d_hs, *others), None
        d_params, before = jax.vmap(partial(pull, step))(d_hs, adjoints)
        sums = jax.tree.map(lambda a, d: a + d.astype(a.dtype), sums, d_params)
        norms = jax.vmap(global_norm)((d_hs, adjoints))
        return (_one_lag_further(step[-1], before), sums), norms

    (_, sums), norms = lax.scan(
        one_step, (adjoints, sums), (*steps, cotangents), reverse=True
    )
    _, outs = lax.scan(fold, carry, sums)
    return outs, jax.vmap(global_norm, in_axes=1)(norms)


def _pull_step(cell, params, restart, step, d_h, adjoint):
    """∂E/∂params at this step, and ∂E/∂ the state before it."""
    x, before, marks = step
    (_, h), pull = vjp_step(cell, params, before, x, marks, restart)
    return pull((adjoint, jax.tree.map(jnp.zeros_like, h) if d_h is None else d_h))


def _first_of(lags: int, a: Array) -> Array:
    """`a` at lag 0, and zeros at the others: [L, ...]."""
    return jnp.concatenate([a[None], jnp.zeros((lags - 1, *a.shape), a.dtype)])


def _one_lag_further(marks: Marks, adjoints: Any) -> Any:
    """Shift every adjoint by one lag where a step was taken, dropping the farthest."""

    def further(a):
        return jnp.concatenate([jnp.zeros_like(a[:1]), a[:-1]])

    moved = jax.tree.map(further, adjoints)
    return jax.vmap(partial(where_live, marks))(moved, adjoints)
