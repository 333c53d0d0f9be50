"""Keras's `SimpleRNN`, `LSTM` and `GRU`, as their `layer.get_weights()` gives them.

    kernel [D, G·H], recurrent_kernel [H, G·H], bias [G·H], or [2, 3·H] for a GRU with
    reset_after=True: its input side and its recurrent side. No bias: use_bias=False.

Gates: i, f, c, o, which are i, f, g, o here; z, r, h, which are z, r, n here. Keras has
h' = z ⊙ h + (1-z) ⊙ n: z is in the same sense.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jaxrnn.layers as layers
from jaxrnn.cell import Cell, Params
from jaxrnn.convert.blocks import (
    GATES,
    cell_of,
    check_export,
    check_kind,
    check_leaves,
    check_shape,
    concatenate,
    one_bias,
    own_of,
    regroup,
    units_of,
    zeros,
)
from jaxrnn.layer import Layer

_KINDS = {"simple_rnn": "elman", "lstm": "lstm", "gru": "gru"}
_ORDER = {"elman": "h", "lstm": "ifgo", "gru": "zrn"}


def from_keras(
    weights: Sequence[Any],
    kind: str = "lstm",
    *,
    activation: str | Callable[[Any], Any] | None = None,
    reset_after: bool = True,
    bidirectional: bool = False,
) -> tuple[Cell | Layer, Any]:
    """A cell and its parameters from a Keras layer's weights.

    Args:
        weights: arrays in the order of `layer.get_weights()`.
        kind: "simple_rnn", "lstm" or "gru".
        activation: of a "simple_rnn", as `elman` takes it; tanh by default.
        reset_after: the Keras GRU's own option.
        bidirectional: the weights are a `keras.layers.Bidirectional`'s, both of whose
            layers are of this kind.
    Returns: (cell, Params), or (bidirectional(cell), Directions of Params).
    Raises:  ValueError or TypeError for another number, shape or dtype of arrays, an
             unknown kind or an option that the kind does not have.
    """
    check_kind(kind, list(_KINDS))
    if not isinstance(weights, list | tuple):
        raise TypeError(
            "weights: expected a list of arrays as layer.get_weights() gives it, "
            f"got {type(weights).__name__}"
        )
    if kind != "gru" and not reset_after:
        raise ValueError(f"reset_after: expected True for kind={kind!r}, got False")
    check_leaves("weights", weights)
    cell = cell_of(_KINDS[kind], activation, reset_after=reset_after)
    counts = (4, 6) if bidirectional else (2, 3)
    if len(weights) not in counts:
        raise ValueError(
            f"weights: expected {counts[1]} arrays, or {counts[0]} without a bias, "
            f"for kind={kind!r} and bidirectional={bidirectional}, got {len(weights)}"
        )
    if not bidirectional:
        return cell, _params(weights, 0, _KINDS[kind], reset_after)
    half = len(weights) // 2
    both = layers.Directions(
        _params(weights[:half], 0, _KINDS[kind], reset_after),
        _params(weights[half:], half, _KINDS[kind], reset_after),
    )
    return layers.bidirectional(cell), both


def _params(weights, first, kind, reset_after) -> Params:
    """Of one direction, whose weights begin at place `first` of all."""
    gates, here, there = len(GATES[kind]), _ORDER[kind], GATES[kind]
    kernel, recurrent, *bias = weights
    units = units_of(f"weights[{first + 1}]", recurrent, gates)
    wide = gates * units
    check_shape(f"weights[{first}]", kernel, (None, wide))
    two = kind == "gru" and reset_after
    if bias:
        shape = (2, wide) if two else (wide,)
        said = f" (reset_after={reset_after})" if kind == "gru" else ""
        check_shape(f"weights[{first + 2}]{said}", bias[0], shape)
    w_x = regroup(kernel, here, there)
    w_s = regroup(recurrent, here, there)
    b = regroup(bias[0], here, there) if bias else None
    if two:
        return Params(w_x, w_s, *((None, None) if b is None else (b[0], b[1])))
    if kind == "gru":
        own = own_of(w_s[:, 2 * units :])
        return Params(w_x, w_s[:, : 2 * units], b, None, own)
    return Params(w_x, w_s, b)


def to_keras(params: Any, kind: str = "lstm") -> list[Any]:
    """A Keras layer's weights from a cell's parameters, the inverse of `from_keras`.

    For `layer.set_weights`. Where a GRU resets is read off the parameters; Keras's
    layer has to have `reset_after` accordingly, and `use_bias=False` for parameters
    without any bias. A "simple_rnn" and an "lstm" get b + b_s as their one bias.

    Args:
        params: `Params`, or `Directions` of them for a `keras.layers.Bidirectional`.
    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_kind(kind, list(_KINDS))
    if isinstance(params, layers.Directions):
        return [a for part in params for a in to_keras(part, kind)]
    ours = _KINDS[kind]
    check_export(params, ours, reset_after=None)
    there, here = _ORDER[ours], GATES[ours]
    w_s, before = params.w_s, params.own is not None
    if before:
        w_s = concatenate([w_s, params.own.w_n])
    weights = [regroup(params.w_x, here, there), regroup(w_s, here, there)]
    bias = _two_biases(params) if ours == "gru" and not before else one_bias(params)
    return weights if bias is None else [*weights, regroup(bias, here, there)]


def _two_biases(params: Params) -> Any:
    """[2, 3·H], b above b_s; None without either."""
    b, b_s = params.b, params.b_s
    some = b if b_s is None else b_s
    if some is None:
        return None
    none = zeros(some, *some.shape)
    rows = (none if b is None else b), (none if b_s is None else b_s)
    return concatenate([row[None] for row in rows], axis=0)
