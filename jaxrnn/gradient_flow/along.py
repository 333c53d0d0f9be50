"""Along a run: the state before every step, and the step's Jacobian both ways."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, Layer
from jaxrnn.step import pack, transition, unpack
from jaxrnn.unroll import unroll


def states_before(
    cell: Cell | Layer, params: Any, xs: Array, state: Any, **edges: Any
) -> Any:
    """The state before every step, parts [T, ..., H]; edges as in `unroll`."""
    states, _ = unroll(cell, params, xs, state, return_states=True, **edges)
    return jax.tree.map(
        lambda s0, s: jnp.concatenate([s0[None], s[:-1]])[: len(s)], state, states
    )


def size_of(state: Any) -> int:
    """N, the features of all parts."""
    return sum(part.shape[-1] for part in jax.tree.leaves(state))


def push(
    cell: Cell | Layer, params: Any, x: Array, state: Any
) -> Callable[[Array], Array]:
    """v -> J v of one row's step, both [N]; by forward mode."""

    def one_step(state):
        return transition(cell, params, state, x, gradient="autodiff")

    def along(v):
        return pack(jax.jvp(one_step, (state,), (unpack(v, state),))[1])

    return along


def pull(
    cell: Cell | Layer, params: Any, x: Array, state: Any
) -> Callable[[Array], Array]:
    """v -> Jᵀ v of one row's step, both [N]; by hand."""
    _, back = jax.vjp(lambda s: transition(cell, params, s, x), state)
    return lambda v: pack(back(unpack(v, state))[0])
