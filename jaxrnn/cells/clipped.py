"""A cell whose adjoints are clipped at every step of the backward pass.

    λ_t ← λ_t min(1, θ / ‖λ_t‖)        row by row, over all parts of the state

The result is no longer the gradient of the error; `gradient_flow.alignment` measures
its angle to the true one.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_cell, check_number
from jaxrnn.cell import Cell, Its


def _clip(threshold: float, adjoint: Any) -> Any:
    parts = jax.tree.leaves(adjoint)
    # over the largest element, so that no square overflows
    top = jnp.stack([jnp.abs(a).max(-1, keepdims=True) for a in parts]).max(0)
    unit = jnp.where(top > 0, top, 1)
    squares = sum(((a / unit) ** 2).sum(-1, keepdims=True) for a in parts)
    norm = unit * jnp.sqrt(squares)
    scale = jnp.where(norm > threshold, threshold / norm, 1)
    return jax.tree.map(lambda a: a * scale, adjoint)


@by_value
def clipped(cell: Cell[Its], threshold: float) -> Cell[Its]:
    """A cell that clips the adjoint of its state at every step of the backward pass.

    The forward pass is unchanged. λ_t, the gradient of all errors from t on with
    respect to s_t, is clipped by hand and under `jax.grad` alike. JAX refuses forward
    mode, since the result is not a derivative.

    Args:
        cell: the cell to clip.
        threshold: θ, the largest norm of a row's λ_t [H] over all parts of the state.
    Returns: a `Cell` with the params and the state of `cell`.
    Raises:  TypeError if `cell` is not a cell or the threshold not a number; ValueError
             if the threshold is not positive.
    Source:  clipping inside the recurrence, by element: Graves (2013), arXiv 1308.0850,
             §2.1; by norm: Pascanu et al. (2013), Algorithm 1.
    """
    check_cell(cell)
    check_number("threshold", threshold, low=0)

    @jax.custom_vjp
    def passed(state):
        return state

    def forward(state):
        return state, None

    def backward(_, adjoint):
        return (_clip(threshold, adjoint),)

    passed.defvjp(forward, backward)

    def gate(own, z, r, state_prev, *extra):
        state, kept = cell.gate(own, z, r, state_prev, *extra)
        return passed(state), kept

    def pullback(own, coefficients, adjoint):
        return cell.pullback(own, coefficients, _clip(threshold, adjoint))

    return cell._replace(gate=gate, pullback=pullback, linear=None, exact=False)
