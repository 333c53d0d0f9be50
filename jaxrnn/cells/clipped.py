"""A cell whose adjoints are clipped at every step of the way back.

    λ_t ← λ_t min(1, θ / ‖λ_t‖)        each row's, over all parts of its state

The gradient is then not the error's any more; its angle to the true one can be
measured with `gradient_flow.alignment`.
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
    """A cell that clips the adjoint of its state, row by row, before it goes through.

    The forward pass is the cell's. What is clipped is λ_t, all that the errors from t
    on say of s_t; by hand and by `jax.grad` alike. Forward mode is refused by JAX,
    since what is computed is no derivative.

    Args:
        threshold: θ, the largest norm of a row's λ_t over all parts.
    Raises:  TypeError for what is no cell or no number; ValueError unless the threshold
             is positive.
    Source:  clipping inside the recurrence, there by element: Graves (2013), arXiv
             1308.0850, §2.1; by norm: Pascanu et al. (2013), Algorithm 1.
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

    def gate(own, z, r, state_prev):
        state, kept = cell.gate(own, z, r, state_prev)
        return passed(state), kept

    def pullback(own, coefficients, adjoint):
        return cell.pullback(own, coefficients, _clip(threshold, adjoint))

    return cell._replace(gate=gate, pullback=pullback, linear=None, exact=False)
