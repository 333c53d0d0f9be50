"""One step of a layer, and its state as a vector."""

import math
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.chunks import Plan
from jaxrnn._core.door import as_layer, check_forward
from jaxrnn._core.forward import advance_all
from jaxrnn._core.marks import Marks
from jaxrnn._core.numerics import joined, real_only
from jaxrnn._core.route import route
from jaxrnn._core.runners import by_hand
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, Layer


def _at_once(cell, carrier, marks, xs):
    """A runner of sequences of one step, without a loop."""
    start = jax.tree.map(lambda s: s[None], carrier.state)
    states, outputs = advance_all(cell, carrier, marks, xs, start)
    return outputs, states, jax.tree.map(lambda s: s[0], states)


_BY_HAND = partial(by_hand, Plan(chunk=1, store="states"))


def one_step(
    layer: Cell | Layer,
    params: Any,
    state: Any,
    x: Array,
    marks: Marks | None = None,
    restart: Any = None,
    *,
    gradient: str = "manual",
) -> tuple[Any, Array]:
    """One step, its arguments taken as right: the new state and the output.

    Args:
        marks: of this step, arrays [...].
        restart: what a reset puts in place; None without resets.
        gradient: "manual", by hand as in `bptt`, for reverse mode; or "autodiff", JAX's
            own, for both modes.
    Raises:  ValueError for a layer that runs backward in time: it has no single step.
    """
    layer = as_layer(layer)
    check_forward(layer)
    one = jax.tree.map(lambda m: m[None], marks or Marks())
    runner = _BY_HAND if gradient == "manual" else _at_once
    carrier = Carrier(params, state, restart)
    hs, _, state = route(
        runner, layer, carrier, one, jax.tree.map(lambda a: a[None], x)
    )
    return state, jax.tree.map(lambda h: h[0], hs)


def pack(state: Any, axes: int = 0) -> Array:
    """A state's parts side by side as one vector, [*batch, N].

    Integers, booleans and keys, which have no derivative, are left out.

    Args:
        axes: how many leading axes are the batch's; none by default, one row.
    """
    leaves = jax.tree.leaves(real_only(state))
    flat = [a.reshape(*a.shape[:axes], math.prod(a.shape[axes:])) for a in leaves]
    return jnp.concatenate(flat, axis=-1)


def unpack(vector: Array, like: Any, axes: int = 0) -> Any:
    """`pack`, undone: a state with the parts of `like`, whatever its leading axes.

    Args:
        axes: how many of `like`'s leading axes are the batch's.
    """
    leaves, tree = jax.tree.flatten(real_only(like))
    own = [a.shape[axes:] for a in leaves]
    parts = jnp.split(vector, list(accumulate(map(math.prod, own)))[:-1], axis=-1)
    batch = vector.shape[:-1]
    shaped = (a.reshape(*batch, *o) for a, o in zip(parts, own, strict=True))
    return jax.tree.unflatten(tree, shaped)


def size_of(state: Any, axes: int = 0) -> int:
    """N, the real numbers of all parts in one row."""
    parts = jax.tree.leaves(real_only(state))
    return sum(math.prod(part.shape[axes:]) for part in parts)


def units_of(state: Any, axes: int = 0) -> Array:
    """The unit vectors [N, N] of one row."""
    dtype = jax.tree.leaves(real_only(state))[0].dtype
    return jnp.eye(size_of(state, axes), dtype=dtype)


def vjp_step(
    layer: Cell | Layer,
    params: Any,
    state: Any,
    x: Any,
    marks: Marks | None = None,
    restart: Any = None,
    *,
    gradient: str = "manual",
) -> tuple[Any, Callable[..., tuple[Any, Any]]]:
    """`one_step` and its vjp, (state, output) -> (params, state).

    None stands in all of them for what can have no gradient.
    """

    def step(real, real_state):
        on, before = joined(real, params), joined(real_state, state)
        made = one_step(layer, on, before, x, marks, restart, gradient=gradient)
        return real_only(made)

    return jax.vjp(step, real_only(params), real_only(state))


def push(
    layer: Cell | Layer, params: Any, x: Any, state: Any, direction: Array
) -> Array:
    """J v of one row's step, [N] -> [N]; by forward mode."""

    def step(real):
        before = joined(real, state)
        return pack(one_step(layer, params, before, x, gradient="autodiff")[0])

    return jax.jvp(step, (real_only(state),), (unpack(direction, state),))[1]


def pull(layer: Cell | Layer, params: Any, x: Any, state: Any, adjoint: Array) -> Array:
    """Jᵀ v of one row's step, [N] -> [N]; by hand."""

    def step(real):
        return pack(one_step(layer, params, joined(real, state), x)[0])

    _, back = jax.vjp(step, real_only(state))
    return pack(back(adjoint)[0])
