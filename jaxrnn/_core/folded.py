"""One step of a layer, and its state as a vector."""

import math
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


def pack(state: Any) -> Array:
    """A state's parts side by side: [..., H] each, or of more axes -> [..., N]."""
    leaves = jax.tree.leaves(state)
    batch = leaves[0].shape[:-1]
    flat = [a.reshape(*batch, math.prod(a.shape[len(batch) :])) for a in leaves]
    return jnp.concatenate(flat, axis=-1)


def unpack(vector: Array, like: Any) -> Any:
    """`pack`, undone: a state with the parts of `like`, whatever its leading axes."""
    leaves, tree = jax.tree.flatten(like)
    axes = leaves[0].ndim - 1
    own = [a.shape[axes:] for a in leaves]
    ends = list(accumulate(map(math.prod, own)))[:-1]
    parts = jnp.split(vector, ends, axis=-1)
    batch = vector.shape[:-1]
    shaped = (a.reshape(*batch, *o) for a, o in zip(parts, own, strict=True))
    return jax.tree.unflatten(tree, shaped)


def size_of(state: Any) -> int:
    """N, the numbers of all parts in one row."""
    leaves = jax.tree.leaves(state)
    axes = leaves[0].ndim - 1
    return sum(math.prod(part.shape[axes:]) for part in leaves)


def push(
    layer: Cell | Layer, params: Any, x: Array, state: Any, direction: Array
) -> Array:
    """J v of one row's step, [N] -> [N]; by forward mode."""

    def step(state):
        return one_step(layer, params, state, x, gradient="autodiff")[0]

    return pack(jax.jvp(step, (state,), (unpack(direction, state),))[1])


def pull(
    layer: Cell | Layer, params: Any, x: Array, state: Any, adjoint: Array
) -> Array:
    """Jᵀ v of one row's step, [N] -> [N]; by hand."""
    _, back = jax.vjp(lambda s: one_step(layer, params, s, x)[0], state)
    return pack(back(unpack(adjoint, state))[0])
