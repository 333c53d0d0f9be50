"""`jax.lax.scan` with explicit parameters and a hand-made backward pass."""

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
    """Scan a step with explicit parameters; a drop-in for `jax.lax.scan`.

    It replaces `lax.scan(partial(f, params), state, xs)` and gives the same numbers.
    `lax.scan` adds up a weight's gradient step by step; here only ∂s_t/∂s_{t-1} stays
    in the backward loop, as in `transition`.

    Math:    (s_t, y_t) = f(params, s_{t-1}, x_t) for t = 1..T
    Shapes:  state: a pytree of arrays of any shapes; xs [T, ...], a pytree or None
             -> the final state, ys [T, ...].
    Args:
        f: `f(params, state, x) -> (state, y)`, pure. Arrays to be differentiated must
            be arguments of it, not closed over.
        params: a pytree of arrays, the same at every step.
        length: T, required if xs is None; f then gets None for x.
        reverse: run from the last step to the first; ys stay beside their xs.
        checkpoint: store the state at about √T steps only, and run the steps between
            them again in the backward pass.
    Returns: (final state, ys), as `lax.scan` does.
    Raises:  TypeError or ValueError if arrays differ in their number of steps, if that
             number is not given, or if f changes the state's structure or shapes.
    """
    if not callable(f):
        raise TypeError(f"f: expected a function, got {type(f).__name__}")
    check_flag("reverse", reverse)
    check_flag("checkpoint", checkpoint)
    check_positive("length", length, optional=True)
    step = f
    if not jax.tree.leaves(xs):
        if length is None:
            raise ValueError("length: expected the number of steps, since xs is None")
        xs = jnp.arange(length)

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
    """Stands for the functions of a `Transition` that a scan never calls."""
