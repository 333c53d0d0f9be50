"""Pascanu's Ω: a regulariser that makes each step preserve the gradient's norm."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.checks import check_cell
from jaxrnn._core.folded import one_step
from jaxrnn._core.maps import outer_sum
from jaxrnn.backprop import bptt
from jaxrnn.cell import Cell
from jaxrnn.gradient_flow.alignment import Alignment, alignment
from jaxrnn.model import trajectory


class Preservation(NamedTuple):
    """Ω, its gradient, and the gradient of the error.

    value: Ω. w_s: ∂⁺Ω/∂W_s [H, G·H]. gradient: ∂E/∂params, by `bptt`.
    alignment: of ∂⁺Ω/∂W_s with ∂E/∂W_s.
    """

    value: Array
    w_s: Array
    gradient: Any
    alignment: Alignment


def norm_preservation(
    cell: Cell,
    params: Any,
    xs: Array,
    state: Any = None,
    cotangents: Any = None,
    *,
    final: Any = None,
) -> Preservation:
    """How far each step is from preserving the norm of the gradient.

    Math:    Ω = Σ_t (ρ_t - 1)², ρ_t = ‖λ_t ∂s_t/∂s_{t-1}‖ / ‖λ_t‖, mean over rows.
             By hand, with c_{t-1} = λ_t ∂s_t/∂s_{t-1}, whose h part holds δr_t W_sᵀ:
             ∂⁺Ω/∂W_s = Σ_t 2 (ρ_t - 1) / (‖λ_t‖ ‖c_{t-1}‖) h-part(c_{t-1})ᵀ δr_t
             The states, λ and Φ' are held fixed and only the W_s in c_{t-1} is
             differentiated: this is the immediate derivative ∂⁺.
    Shapes:  xs [T, ..., D], state parts [..., H], as in `bptt`.
    Args:
        cell, params, xs, state, cotangents, final: as in `bptt`; no layer.
    Returns: a `Preservation`.
    Use:     add α · w_s to the gradient of W_s before it is clipped.
    Edge:    a step where ‖λ_t‖ is zero adds nothing to Ω, and one where ‖λ_t‖ or
             ‖c_{t-1}‖ is zero adds nothing to ∂⁺Ω.
    Raises:  TypeError for a layer; otherwise as `bptt` does.
    Source:  Pascanu et al. (2013), arXiv 1211.5063, §3.3, equations 9 and 10; the
             ratio is of norms, as in equation 9.
    """
    check_cell(cell, ": Ω is of its W_s")
    d = bptt(cell, params, xs, state, cotangents, final=final)
    xs, before, _ = trajectory(cell, params, xs, state)
    value, w_s = _omega(cell, params, xs, before, d.adjoints, d.deltas.r)
    return Preservation(value, w_s, d.params, alignment(w_s, d.params.w_s))


@partial(jax.jit, static_argnums=0)
def _omega(cell, params, xs, before, adjoints, d_r):
    def pull(x, state, adjoint):
        _, back = jax.vjp(lambda s: one_step(cell, params, s, x)[0], state)
        return back(adjoint)[0]

    carried = jax.vmap(pull)(xs, before, adjoints)  # c_{t-1}
    size, after = _norms(adjoints), _norms(carried)
    there = (size > 0).astype(size.dtype)
    ratio = after / jnp.where(size > 0, size, 1)
    rows = max(1, size[0].size) if len(size) else 1
    value = (there * (ratio - 1) ** 2).sum() / rows
    product = size * after
    pull_on = 2 * (ratio - 1) / jnp.where(product > 0, product, 1) / rows
    pull_on = jnp.where(product > 0, pull_on, 0)
    w_s = outer_sum(carried[cell.recurrent], pull_on[..., None] * d_r)
    return value, w_s.astype(params.w_s.dtype)


def _norms(state: Any) -> Array:
    """The norm of every row, over all parts: [T, ...]."""
    squares = sum((part * part).sum(-1) for part in jax.tree.leaves(state))
    return jnp.sqrt(squares)
