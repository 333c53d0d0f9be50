"""Every state of a run at once: Newton's method over the sequence, and its derivative.

With f_t(s) one step of the cell and s_0 given, the states are the root of

    r_t(s) = f_t(s_{t-1}) - s_t = 0        for t = 1..T

From a guess of all of them, a sweep evaluates f_t and J_t = ∂f_t/∂s_{t-1} for all t at
once, solves the linear recurrence δ_t = J_t δ_{t-1} + r_t, and moves s_t to s_t + δ_t,
written f_t + J_t δ_{t-1}. Where s_{t-1} was right that is f_t itself, so that every
sweep makes at least one step more right: T of them would do without any convergence.

The derivative is exact at the root (implicit function theorem): the same recurrence,
transposed and run backward over the true Jacobians, gives every λ_t.

Source: Lim, Zhu, Selfridge & Kasim (2024), "Parallelizing non-linear sequential models
over the sequence length", arXiv 2309.12252, §3; the backward scan: Wang, Bai &
Pekhimenko (2020), "BPPSA", MLSys, §3.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.cell import Cell, Params
from jaxrnn.parallel.recurrence import affine, jacobians, matrices_of, solve
from jaxrnn.step import pack, transition, unpack
from jaxrnn.unroll import unroll


class Newton(NamedTuple):
    """How a run by Newton's method ended; of a layer, the worst of its cells.

    iterations: sweeps done. residual: the largest |s_t - f(s_{t-1})| of all steps, over
    the largest |f| if that is above 1. converged: whether it is within the tolerance.
    """

    iterations: Array
    residual: Array
    converged: Array


class Method(NamedTuple):
    """Static choices of Newton's method, checked."""

    max_iterations: int | None
    tolerance: float | None


class Run(NamedTuple):
    """Every state (parts [T, ..., H]), the last one, and how they were found."""

    states: Any
    final: Any
    newton: Newton


def find_states(
    cell: Cell, method: Method | None, params: Params, xs: Array, state: Any, probe: Any
) -> Run:
    """Every state of a run; its derivative is the exact backward scan.

    Args:
        method: None for the sequential loop.
        probe: None, or zeros like the states, whose gradient is every λ_t.
    """
    del probe
    if method is None or len(xs) == 0:
        states, final = unroll(cell, params, xs, state, return_states=True)
        nothing = Newton(jnp.int32(0), jnp.zeros((), xs.dtype), jnp.bool_(True))
        return Run(states, final, nothing)
    like = jax.tree.map(lambda s: jnp.broadcast_to(s, (len(xs), *s.shape)), state)
    tolerance = method.tolerance
    if tolerance is None:
        tolerance = 64 * float(jnp.finfo(xs.dtype).eps)
    one = matrices_of(cell).one
    if one is not None:
        vectors, residual, count = _direct(cell, one, params, xs, state, like)
    else:
        chosen = method.max_iterations or len(xs), tolerance
        vectors, residual, count = _sweeps(cell, *chosen, params, xs, state, like)
    converged = residual <= tolerance
    vectors = jnp.where(converged, vectors, jnp.nan)
    states = unpack(vectors, like)
    final = jax.tree.map(lambda s: s[-1], states)
    return Run(states, final, Newton(count, residual, converged))


def _direct(cell, one, params, xs, state, like):
    """Of a linear cell, one scan: its A_t and b_t wait for no state."""
    kind = matrices_of(cell)
    a, b = affine(cell, one, params, like, xs)
    start = pack(state)
    vectors = solve(kind, a, b.at[0].add(kind.act(a[0], start)))
    before = jnp.concatenate([start[None], vectors])[:-1]
    after = kind.act(a, before) + b
    return vectors, _residual(after, vectors), jnp.int32(0)


def _sweeps(cell, limit, tolerance, params, xs, state, like):
    kind = matrices_of(cell)

    def shift(vectors):
        return unpack(jnp.concatenate([pack(state)[None], vectors])[:-1], like)

    def look(vectors):
        after = pack(transition(cell, params, shift(vectors), xs))
        return vectors, after, _residual(after, vectors)

    def more(carry):
        (_, _, residual), count = carry
        going = (residual > tolerance) & (residual < jnp.inf)
        return going & (count < limit)

    def sweep(carry):
        (vectors, after, _), count = carry
        wrong = after - vectors  # r_t
        a = jacobians(cell, params, shift(vectors), xs)
        onward = solve(kind, a, wrong) - wrong  # J_t δ_{t-1}
        sound = _sound(onward, after)
        vectors = after + jnp.where(sound, onward, jnp.zeros_like(onward))
        return look(vectors), count + 1

    (vectors, _, residual), count = lax.while_loop(
        more, sweep, (look(pack(like)), jnp.int32(0))
    )
    return vectors, residual, count


def _residual(after: Array, vectors: Array) -> Array:
    wrong = jnp.abs(after - vectors)
    size = jnp.abs(after).max(initial=1)
    # Looked for by themselves: XLA's maximum of a large array may pass over NaN.
    return jnp.where(jnp.isfinite(wrong).all(), wrong.max(initial=0) / size, jnp.inf)


def _sound(onward: Array, after: Array) -> Array:
    """Where to believe what a sweep carries to a step: [T, ..., 1].

    Not from the first step on where it is not finite, or so large that beside it more
    than half of the digits of f_t are lost. The step then moves to f_t alone, which is
    right wherever the state before was.
    """
    largest = (1 + jnp.abs(after).max(initial=0)) / jnp.sqrt(jnp.finfo(after.dtype).eps)
    sound = (jnp.abs(onward) <= largest).all(axis=-1, keepdims=True)  # NaN is not
    return lax.cummin(sound.astype(jnp.int32)).astype(bool)


def _forward(cell, method, params, xs, state, probe):
    # The rule itself, so that the derivative can be taken again.
    run = solve_run(cell, method, params, xs, state, probe)
    return run, (params, xs, state, probe, run.states, run.newton.converged)


def _backward(cell, method, residuals, cotangents):
    del method
    params, xs, state, probe, states, converged = residuals
    direct, final, _ = cotangents
    if len(xs) == 0:
        nothing = jax.tree.map(jnp.zeros_like, (params, xs))
        return *nothing, final, probe
    kind = matrices_of(cell)
    before = jax.tree.map(
        lambda first, s: jnp.concatenate([first[None], s])[:-1], state, states
    )
    # λ_t = J_{t+1}ᵀ λ_{t+1} + g_t; nothing follows the last step but `final`
    a = jacobians(cell, params, before, xs)
    a = jnp.concatenate([a[1:], jnp.zeros_like(a[:1])])
    direct = pack(direct).at[-1].add(pack(final))
    adjoints = solve(kind, kind.transpose(a), direct, reverse=True)
    adjoints = unpack(adjoints, states)
    # and all parameters' and inputs' gradients from all λ_t, again as one large step
    _, pull = jax.vjp(partial(transition, cell), params, before, xs)
    d_params, d_before, d_xs = pull(adjoints)
    d_state = jax.tree.map(lambda d: d[0], d_before)
    d = d_params, d_xs, d_state, None if probe is None else adjoints
    # By a choice, since XLA may make 0 of NaN times a slope of 0.
    return jax.tree.map(lambda g: jnp.where(converged, g, jnp.nan), d)


solve_run = jax.custom_vjp(find_states, nondiff_argnums=(0, 1))
solve_run.defvjp(_forward, _backward)
