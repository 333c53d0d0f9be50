"""A scan with the hand-made backward pass: `jax.lax.scan`, its parameters said."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._core.checks import check_flag, check_positive
from jaxrnn._core.chunks import Plan
from jaxrnn._core.inputs import read_inputs
from jaxrnn._core.marks import Marks, turn
from jaxrnn._core.runners import by_hand
from jaxrnn.layer import Carrier, Transition


def scan(
    f: Callable[..., tuple[Any, Any]],
    params: Any,
    state: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    reverse: bool = False,
    checkpoint: bool = False,
) -> tuple[Any, Any]:
    """`jax.lax.scan` of a step with parameters, its gradient that of a transition.

    In the place of `lax.scan(partial(f, params), state, xs)`: the same numbers, and
    a backward pass that keeps only what is sequential inside its loop; see
    `transition`. There, a weight's gradient is added up step by step.

    Math:    (s_t, y_t) = f(params, s_{t-1}, x_t) for t = 1..T
    Shapes:  state: a pytree of arrays of any shapes; xs [T, ...], a pytree or None
             -> the final state, ys [T, ...].
    Args:
        f: `f(params, state, x) -> (state, y)`, pure; it does not read an array that is
            differentiated but through its arguments.
        length: T, needed where xs is None; f is then given None for x.
        reverse: run from the last step to the first; ys stay beside their xs.
        checkpoint: store the state at about √T steps only, and run the steps between
            them again in the backward pass.
    Returns: (final state, ys), as `lax.scan` does.
    Raises:  TypeError or ValueError for arrays of another number of steps, no steps to
             be counted, or a step that gives another state than it was given.
    """
    if not callable(f):
        raise TypeError(f"f: expected a function, got {type(f).__name__}")
    check_flag("reverse", reverse)
    check_flag("checkpoint", checkpoint)
    check_positive("length", length, optional=True)
    step, leaves = f, jax.tree.leaves(xs)
    if not leaves:
        if length is None:
            raise ValueError("length: expected the number of steps, since xs is None")
        leaves, xs = [], jnp.arange(length)

        def step(params, state, x):
            del x
            return f(params, state, None)

    ranks = tuple(max(0, jnp.ndim(a) - 1) for a in jax.tree.leaves(xs))
    xs, (steps,) = read_inputs(ranks, xs)
    if length is not None and length != steps:
        raise ValueError(f"length: expected {steps}, the steps of xs, got {length}")
    params, state = jax.tree.map(jnp.asarray, (params, state))
    part = Transition(step, _none, _none, _none, ranks)
    plan = Plan(_chunk(jax.tree.leaves(xs)[0]))
    if checkpoint:
        plan = Plan(max(1, round(steps**0.5)), "borders")
    inputs = turn(xs) if reverse else xs
    ys, _, final = by_hand(plan, part, Carrier(params, state), Marks(), inputs)
    return final, turn(ys) if reverse else ys


def _chunk(xs: Any) -> int:
    """Steps whose derivative is taken at once; xs [T, rows, ...] or [T, D]."""
    return max(1, 1024 // max(1, xs.shape[1] if xs.ndim > 2 else 1))


def _none(*_: Any) -> Any:
    """What a scan never asks of its step."""
