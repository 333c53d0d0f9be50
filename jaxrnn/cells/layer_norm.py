"""Layer normalisation of one array, and of a cell's two maps.

    x̂ = (x - mean x) / sqrt(var x + ε)     LN(x) = g ⊙ x̂ + b, over the last axis

Backward, with e = g ⊙ λ:   x̄ = (e - mean e - x̂ mean(e ⊙ x̂)) / sqrt(var x + ε)

Source: Ba, Kiros & Hinton (2016), arXiv 1607.06450, equations 3, 4 and 20-22.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_cell
from jaxrnn._core.numerics import add_bias, spread
from jaxrnn.cell import Cell, Its

_EPSILON = 1e-5


class Standard(NamedTuple):
    """x̂ [..., N] and 1/sqrt(var + ε) [..., 1]."""

    x: Array
    scale: Array


def standardize(x: Array) -> Standard:
    """x̂, over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    scale = lax.rsqrt((centred * centred).mean(-1, keepdims=True) + _EPSILON)
    return Standard(centred * scale, scale)


def pull_standard(gain: Array, kept: Standard, adjoint: Array) -> Array:
    """x̄ of LN(x), given λ of its output."""
    e = adjoint * spread(gain, adjoint)
    along = (e * kept.x).mean(-1, keepdims=True)
    return (e - e.mean(-1, keepdims=True) - kept.x * along) * kept.scale


def rescale(gain: Array, shift: Array | None, kept: Standard) -> Array:
    """g ⊙ x̂ + b."""
    return add_bias(kept.x * spread(gain, kept.x), shift)


class Normed(NamedTuple):
    """Gains and shifts of z and r, [G·H] or None, and the cell's own parameters."""

    gain_z: Array
    gain_r: Array
    shift_z: Array | None
    shift_r: Array | None
    own: Any


class _Kept(NamedTuple):
    z: Standard
    r: Standard
    cell: Any


@by_value
def layer_norm(cell: Cell[Its]) -> Cell[Its]:
    """A cell whose two maps are layer-normalised before the gates.

    The gates read LN(x_t W_x) + LN(h_{t-1} W_s), each over all its G·H columns. The
    shifts [G·H] replace the biases: b and b_s are None.

    Args:
        cell: the cell to normalise.
    Returns: a `Cell` with the state of `cell`; its params' `own` holds the gains.
    Raises:  TypeError if `cell` is not a cell; ValueError, from init, for a cell
             without a recurrent product.
    Source:  Ba et al. (2016), equations 20-21. Their LSTM, which also normalises the
             memory, is `layer_norm(lstm(memory_norm=True))`.
    """
    check_cell(cell)

    def init(key, input_size, hidden_size, *, bias=True, dtype=None):
        params = cell.init(key, input_size, hidden_size, bias=bias, dtype=dtype)
        if params.w_s.shape[1] == 0:
            raise ValueError("cell: expected one with a recurrent product to normalise")
        gain_z, gain_r = (jnp.ones_like(w[0]) for w in params[:2])
        own = Normed(gain_z, gain_r, params.b, params.b_s, params.own)
        return params._replace(b=None, b_s=None, own=own)

    def gate(own, z, r, state_prev, *extra):
        std_z, std_r = standardize(z), standardize(r)
        z = rescale(own.gain_z, own.shift_z, std_z)
        r = rescale(own.gain_r, own.shift_r, std_r)
        state, kept = cell.gate(own.own, z, r, state_prev, *extra)
        return state, _Kept(std_z, std_r, kept)

    def linearize(own, kept, state_prev, state, *extra):
        inside = cell.linearize(own.own, kept.cell, state_prev, state, *extra)
        return kept._replace(cell=inside)

    def pullback(own, coefficients, adjoint):
        d_z, d_r, before = cell.pullback(own.own, coefficients.cell, adjoint)
        d_z = pull_standard(own.gain_z, coefficients.z, d_z)
        d_r = pull_standard(own.gain_r, coefficients.r, d_r)
        return d_z, d_r, before

    return cell._replace(
        init=init,
        gate=gate,
        linearize=linearize,
        pullback=pullback,
        independent=False,
        linear=None,
    )
