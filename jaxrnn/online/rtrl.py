"""Real-time recurrent learning: the exact gradient, carried forward in time.

    M_t = ∂s_t/∂θ = J_t M_{t-1} + ∂⁺s_t/∂θ
    ∂E_t/∂θ = ∂E_t/∂s_t M_t

Source: Williams & Zipser (1989), Neural Computation 1, 270-280, equations 2.7-2.11.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn._core.checks import check_choice
from jaxrnn._core.door import as_layer
from jaxrnn._core.folded import (
    one_step,
    pack,
    size_of,
    units_of,
    unpack,
    vjp_step,
)
from jaxrnn._core.numerics import joined, over_batch, real_only
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.online.record import (
    Online,
    make,
    sum_rows,
    zeros_by_row,
)


class Influence(NamedTuple):
    """The state, and M: leaves [..., N, *leaf], with the state's parts concatenated."""

    state: Any
    of_params: Any


def rtrl(cell: Cell | Layer, *, gradient: str = "manual") -> Online:
    """Real-time recurrent learning: the exact gradient, equal to BPTT's.

    Both factors, J_t and ∂⁺s_t/∂θ, come row by row from one pull-back by hand of the N
    unit vectors.

    Args:
        cell: any cell, or any layer that runs forward in time.
        gradient: of a step: "manual", or "autodiff", JAX's own, which shares no code
            with the derivation by hand.
    Returns: an `Online`.
    Raises:  ValueError for an unknown gradient or a layer with a backward direction;
             TypeError if `cell` is neither a cell nor a layer.
    Source:  Williams & Zipser (1989), Neural Computation 1, 270-280.
    """
    check_choice("gradient", gradient, ("manual", "autodiff"))
    layer = as_layer(cell)

    def start(params, state, batch, x, anew):
        del x
        if anew:
            return Influence(state, of_start(params, batch))
        rows = *batch, size_of(state, len(batch))
        return Influence(state, zeros_by_row(params, rows))

    def of_start(params, batch):
        """M_0 = ∂s_0/∂θ, which is zero unless the start is learned."""

        def one_row(real):
            return real_only(layer.initial_state(joined(real, params)))

        state, back = jax.vjp(one_row, real_only(params))
        (influence,) = jax.vmap(back)(unpack(units_of(state), state))
        return jax.tree.map(
            lambda m: jnp.broadcast_to(m, (*batch, *m.shape)), influence
        )

    def advance(params, memory, batch, x, cotangent):
        after, h = one_step(cell, params, memory.state, x)

        def of_row(state, influence, x, d_h):
            (new, _), pull = vjp_step(cell, params, state, x, gradient=gradient)
            nothing = jax.tree.map(jnp.zeros_like, new)
            direct, back = pull((nothing, d_h))
            # through the state before, which M_{t-1} knows, and at once
            grads = jax.tree.map(
                lambda m, d: jnp.tensordot(pack(back), m, 1) + d, influence, direct
            )
            units = unpack(units_of(state), state)
            quiet = jax.tree.map(jnp.zeros_like, d_h)
            at_once, jacobian = jax.vmap(lambda u: pull((u, quiet)))(units)
            # M_t = J_t M_{t-1} + ∂⁺s_t/∂θ
            influence = jax.tree.map(
                lambda m, d: jnp.tensordot(pack(jacobian, 1), m, 1) + d,
                influence,
                at_once,
            )
            return influence, grads

        inputs = memory.state, memory.of_params, x, cotangent(h)
        influence, grads = over_batch(of_row, len(batch))(*inputs)
        return Influence(after, influence), sum_rows(grads, batch)

    return make(cell, start, advance)
