"""Unbiased online recurrent optimisation: the influence as one random outer product.

    M_t ≈ s̃_t θ̃_tᵀ, with the exact M_t as its mean
    s̃_t = ρ0 J_t s̃_{t-1} + ρ1 ν      θ̃_t = θ̃_{t-1} / ρ0 + νᵀ ∂⁺s_t/∂θ / ρ1

ν are random signs; ρ0 and ρ1 balance the size of the two factors and leave the mean.

Source: Tallec & Ollivier (2017), arXiv 1702.05043, algorithm 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.door import as_layer
from jaxrnn._core.folded import one_step, pack, push, unpack, vjp_step
from jaxrnn._core.numerics import global_norm, over_batch
from jaxrnn._core.sizes import check_key
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.online.record import (
    Online,
    check_start,
    make,
    sum_rows,
    zeros_by_row,
)


class RankOne(NamedTuple):
    """The state, the key of the next signs, s̃ [..., N] and θ̃, leaves [..., *leaf]."""

    state: Any
    key: Array
    of_state: Array
    of_params: Any


def uoro(key: Array, cell: Cell | Layer) -> Online:
    """Unbiased online recurrent optimisation: an unbiased, noisy gradient.

    It stores one vector like the gradient per row. The step's own share, ∂E_t/∂s_t
    ∂⁺s_t/∂θ, is exact, and only earlier steps go through s̃ θ̃ᵀ: the mean is that of the
    source, with less noise.

    Args:
        key: for the random signs of a run.
        cell: any cell, or any layer that runs forward in time.
    Returns: an `Online`.
    Raises:  TypeError for an invalid key or cell; ValueError for a layer with a
             backward direction.
    Source:  Tallec & Ollivier (2017), arXiv 1702.05043, algorithm 1.
    """
    check_key(key)
    layer = as_layer(cell)

    def start(params, state, batch, x, anew):
        del x
        if anew:
            check_start("uoro", layer, params)
        nothing = jnp.zeros_like(pack(state, len(batch)))
        return RankOne(state, key, nothing, zeros_by_row(params, batch))

    def advance(params, memory, batch, x, cotangent):
        after, h = one_step(cell, params, memory.state, x)
        next_key, k_signs = jax.random.split(memory.key)
        like = memory.of_state
        signs = jax.random.rademacher(k_signs, like.shape, like.dtype)

        def of_row(state, of_state, of_params, x, d_h, signs):
            (new, _), pull = vjp_step(cell, params, state, x)
            direct, back = pull((jax.tree.map(jnp.zeros_like, new), d_h))
            along = jnp.vdot(pack(back), of_state)
            grads = jax.tree.map(lambda d, m: d + along * m, direct, of_params)

            pushed = push(cell, params, x, state, of_state)  # J_t s̃_{t-1}
            quiet = jax.tree.map(jnp.zeros_like, d_h)
            at_once, _ = pull((unpack(signs, state), quiet))  # νᵀ ∂⁺s/∂θ
            rho_0 = _balance(global_norm(of_params), global_norm(pushed))
            rho_1 = _balance(global_norm(at_once), global_norm(signs))
            rho_0, rho_1 = rho_0.astype(signs.dtype), rho_1.astype(signs.dtype)
            of_state = rho_0 * pushed + rho_1 * signs
            of_params = jax.tree.map(
                lambda m, d: m / rho_0 + d / rho_1, of_params, at_once
            )
            return of_state, of_params, grads

        carried = memory.state, memory.of_state, memory.of_params
        found = over_batch(of_row, len(batch))(*carried, x, cotangent(h), signs)
        of_state, of_params, grads = found
        memory = RankOne(after, next_key, of_state, of_params)
        return memory, sum_rows(grads, batch)

    return make(cell, start, advance, rows=RankOne._make([0, None, 0, 0]))


def _balance(left: Array, right: Array) -> Array:
    """√(left / right), and 1 where one of them is zero: any number keeps the mean."""
    both = (left > 0) & (right > 0)
    return jnp.where(both, jnp.sqrt(left / jnp.where(both, right, 1)), 1)
