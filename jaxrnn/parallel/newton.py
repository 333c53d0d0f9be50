"""All states of a run at once: Newton's method over the sequence, and its derivative.

With f_t(s) one step of the cell and s_0 given, the states are the root of

    r_t(s) = f_t(s_{t-1}) - s_t = 0        for t = 1..T

From a guess of all of them, a sweep evaluates f_t and J_t = ∂f_t/∂s_{t-1} for all t at
once, solves the linear recurrence δ_t = J_t δ_{t-1} + r_t, and moves s_t to s_t + δ_t,
written f_t + J_t δ_{t-1}. Where s_{t-1} was right this is f_t itself, so every sweep
makes at least one more step right, and T sweeps are always enough.

The derivative is exact at the root (implicit function theorem): the same recurrence,
transposed and run backward over the true Jacobians, gives every λ_t.

Source: Lim, Zhu, Selfridge & Kasim (2024), "Parallelizing non-linear sequential models
over the sequence length", arXiv 2309.12252, §3; the backward scan: Wang, Bai &
Pekhimenko (2020), "BPPSA", MLSys, §3.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.backward import gather
from jaxrnn._core.chunks import Plan
from jaxrnn._core.folded import pack, unpack
from jaxrnn._core.forward import advance_all, forward
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.marks import Marks, inside_only, states_before
from jaxrnn._core.numerics import real_only
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, Transition
from jaxrnn.parallel.recurrence import jacobians, matrices_of, solve, steps_back


class Newton(NamedTuple):
    """How a run by Newton's method ended, as scalars; the worst of a layer's cells.

    iterations: the number of sweeps.
    residual: the largest |s_t - f(s_{t-1})| of all steps, relative to the largest |f|
        if that is above 1.
    converged: whether the residual is within the tolerance.
    """

    iterations: Array
    residual: Array
    converged: Array


class Method(NamedTuple):
    """Static choices of Newton's method, checked."""

    max_iterations: int | None
    tolerance: float | None


class Run(NamedTuple):
    """All states of a cell, parts [T, ..., H], and how Newton's method ended."""

    states: Any
    newton: Newton


# Runners --------------------------------------------------------------------------


def by_newton(
    method: Method, part: Cell | Transition, carrier: Carrier, marks: Marks, xs: Any
) -> tuple[Any, Run, Any]:
    """A runner: all steps at once, forward and backward; its states are a `Run`."""
    states, final, newton = _solved(part, method, carrier, marks, xs)
    hs = _outputs(part, carrier, marks, xs, states)
    return inside_only(marks, hs), Run(inside_only(marks, states), newton), final


def by_scan(
    plan: Plan, part: Cell | Transition, carrier: Carrier, marks: Marks, xs: Any
) -> tuple[Any, Any, Any]:
    """A runner: the ordinary loop forward, and all steps at once backward."""
    del plan  # there are no chunks
    states, final, _ = _solved(part, None, carrier, marks, xs)
    hs = _outputs(part, carrier, marks, xs, states)
    return inside_only(marks, hs), inside_only(marks, states), final


def _outputs(part, carrier, marks, xs, states):
    """Every step's output: a cell's h, or what a transition's step returns."""
    if isinstance(part, Cell):
        return states[0]
    before = states_before(carrier.state, states)
    return advance_all(part, carrier, marks, xs, before)[1]


# Forward --------------------------------------------------------------------------


def _find(part, method, carrier, marks, xs):
    """All states of a run, the last one, and how Newton's method ended.

    Args:
        method: None for the sequential loop.
    """
    state = carrier.state
    steps, dtype = len(jax.tree.leaves(xs)[0]), jax.tree.leaves(state)[0].dtype
    if method is None or steps == 0:
        plan = Plan(chunk=max(1, steps), store="states")
        plan = plan._replace(ahead=jax.default_backend() != "cpu")
        states, _, final, _ = forward(part, plan, carrier, marks, xs)
        found = Newton(jnp.int32(0), jnp.zeros((), dtype), jnp.bool_(True))
        return states, final, found
    like = jax.tree.map(lambda s: jnp.broadcast_to(s, (steps, *s.shape)), state)
    axes = len(axes_of(part.x_ndim, xs))
    tolerance = method.tolerance
    if tolerance is None:
        tolerance = 64 * float(jnp.finfo(dtype).eps)

    def step(vectors):  # f_t of every state before
        before = states_before(state, unpack(vectors, like, axes))
        return pack(advance_all(part, carrier, marks, xs, before)[0], axes)

    kind = matrices_of(part, marks)
    if kind.one is not None:
        # One scan, since A_t and b_t need no state. A step from zero gives b_t; the
        # first step, which starts from s_0, gives its state.
        zeros = jax.tree.map(jnp.zeros_like, like)
        _, back = steps_back(part, carrier, marks, xs, zeros)
        a = jacobians(kind, back, like, axes)
        vectors = solve(kind, a, step(pack(zeros, axes)))
        residual, count = _residual(step(vectors), vectors), jnp.int32(0)
    else:

        def slopes(vectors):
            before = states_before(state, unpack(vectors, like, axes))
            _, back = steps_back(part, carrier, marks, xs, before)
            return jacobians(kind, back, like, axes)

        limit = method.max_iterations or steps
        vectors, residual, count = _sweeps(
            kind, step, slopes, pack(like, axes), limit, tolerance
        )
    converged = residual <= tolerance
    states = unpack(jnp.where(converged, vectors, jnp.nan), like, axes)
    final = jax.tree.map(lambda s: s[-1], states)
    return states, final, Newton(count, residual, converged)


def _sweeps(kind, step, slopes, start, limit, tolerance):
    def look(vectors):
        after = step(vectors)
        return vectors, after, _residual(after, vectors)

    def more(carry):
        (_, _, residual), count = carry
        going = (residual > tolerance) & (residual < jnp.inf)
        return going & (count < limit)

    def sweep(carry):
        (vectors, after, _), count = carry
        wrong = after - vectors  # r_t
        onward = solve(kind, slopes(vectors), wrong) - wrong  # J_t δ_{t-1}
        sound = _sound(onward, after)
        vectors = after + jnp.where(sound, onward, jnp.zeros_like(onward))
        return look(vectors), count + 1

    (vectors, _, residual), count = lax.while_loop(
        more, sweep, (look(start), jnp.int32(0))
    )
    return vectors, residual, count


def _residual(after: Array, vectors: Array) -> Array:
    wrong = jnp.abs(after - vectors)
    size = jnp.abs(after).max(initial=1)
    # NaNs are checked separately: XLA's maximum of a large array may skip them.
    return jnp.where(jnp.isfinite(wrong).all(), wrong.max(initial=0) / size, jnp.inf)


def _sound(onward: Array, after: Array) -> Array:
    """Which steps can use what the sweep carries to them, J_t δ_{t-1}: [T, ..., 1].

    None from the first step on where it is not finite, or so large that more than half
    of the digits of f_t are lost beside it. Such a step moves to f_t alone, which is
    right wherever the state before was.
    """
    largest = (1 + jnp.abs(after).max(initial=0)) / jnp.sqrt(jnp.finfo(after.dtype).eps)
    sound = (jnp.abs(onward) <= largest).all(axis=-1, keepdims=True)  # NaN is not
    return lax.cummin(sound.astype(jnp.int32)).astype(bool)


# Backward -------------------------------------------------------------------------


def _forward(part, method, carrier, marks, xs):
    # Calls the rule itself, so that the derivative can be taken again.
    states, final, newton = _solved(part, method, carrier, marks, xs)
    left = carrier, marks, xs, states, newton.converged
    return (states, final, newton), left


def _backward(part, method, residuals, cotangents):
    del method
    carrier, marks, xs, states, converged = residuals
    direct, final, _ = real_only(cotangents)
    if len(jax.tree.leaves(xs)[0]) == 0:
        nothing = jax.tree.map(jnp.zeros_like, real_only(carrier._replace(noise=None)))
        return (
            nothing._replace(state=final),
            None,
            jax.tree.map(jnp.zeros_like, real_only(xs)),
        )
    kind = matrices_of(part, marks)
    before = states_before(carrier.state, states)
    at, back = steps_back(part, carrier, marks, xs, before)
    # λ_t = J_{t+1}ᵀ λ_{t+1} + g_t; at the last step `final` is added
    axes = len(axes_of(part.x_ndim, xs))
    a = jacobians(kind, back, states, axes)
    a = jnp.concatenate([a[1:], jnp.zeros_like(a[:1])])
    direct = pack(direct, axes).at[-1].add(pack(final, axes - 1))
    adjoints = solve(kind, kind.transpose(a), direct, reverse=True)
    # then all parameters' and inputs' gradients from all λ_t at once
    before, restart, delta, adjoints = back(unpack(adjoints, states, axes))
    d_params, d_xs = gather(part, carrier, marks, xs, at, delta, adjoints, None)
    d = Carrier(
        params=jax.tree.map(
            lambda p, g: g.astype(p.dtype), real_only(carrier.params), d_params
        ),
        state=jax.tree.map(lambda a: a[0], before),
        restart=jax.tree.map(lambda a: a.sum(0), restart),
        deltas=None if carrier.deltas is None else delta,
        adjoints=None if carrier.adjoints is None else adjoints,
    )
    d = d, d_xs
    # With `where`, since XLA may turn NaN times a slope of 0 into 0.
    d, d_xs = jax.tree.map(lambda g: jnp.where(converged, g, jnp.nan), d)
    return d, None, d_xs


_solved = jax.custom_vjp(_find, nondiff_argnums=(0, 1))
_solved.defvjp(_forward, _backward)
