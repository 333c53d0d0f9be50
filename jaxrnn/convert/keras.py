"""Keras's `SimpleRNN`, `LSTM` and `GRU`, as their `layer.get_weights()` gives them.

    kernel [D, G·H], recurrent_kernel [H, G·H], bias [G·H], or [2, 3·H] for a GRU with
    reset_after=True: its input side and its recurrent side. No bias: use_bias=False.

Gates: i, f, c, o, which are i, f, g, o here; z, r, h, which are z, r, n here. Keras has
h' = z ⊙ h + (1-z) ⊙ n: z is in the same sense.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jaxrnn.layers as layers
from jaxrnn.cell import Cell, Params
from jaxrnn.convert._arrays import check_choice, check_shape, check_type, read
from jaxrnn.convert._blocks import (
    GATES,
    Block,
    both_biases,
    cell_of,
    concatenate,
    gather,
    has_bias,
    part_candidate,
    read_params,
    regroup,
    sides,
    with_one_bias,
)
from jaxrnn.layer import Layer

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
        kind: "lstm", "gru" or "elman" (SimpleRNN).
        activation: of an "elman", as `elman` takes it; tanh by default.
        reset_after: the Keras GRU's own option.
        bidirectional: the weights are a `keras.layers.Bidirectional`'s, both of whose
            layers are of this kind.
    Returns: (cell, Params), or (bidirectional(cell), Directions of Params).
    Raises:  ValueError or TypeError for another number, shape or dtype of arrays, an
             unknown kind or an option that the kind does not have.
    """
    check_choice("kind", kind, list(GATES))
    check_type("weights", weights, list | tuple, "a list of arrays")
    if kind != "gru" and not reset_after:
        raise ValueError(f"reset_after: expected True for kind={kind!r}, got False")
    cell = cell_of(kind, activation, reset_after=reset_after)
    few, many = (4, 6) if bidirectional else (2, 3)
    if len(weights) not in (few, many):
        raise ValueError(
            f"weights: expected {many} arrays, or {few} without a bias, "
            f"for kind={kind!r} and bidirectional={bidirectional}, got {len(weights)}"
        )
    arrays = list(read({"weights": weights}).items())
    each = len(arrays) // (1 + bidirectional)
    first = _params(dict(arrays[:each]), kind, reset_after)
    if not bidirectional:
        return cell, first
    second = _params(dict(arrays[each:]), kind, reset_after)
    return layers.bidirectional(cell), layers.Directions(first, second)


def _params(arrays: Mapping[str, Any], kind: str, reset_after: bool) -> Params:
    """One direction's."""
    order = _ORDER[kind]
    kernel, recurrent, *bias = arrays
    blocks = {kernel: Block("w_x", order), recurrent: Block("w_s", order)}
    params = gather(arrays, blocks, kind)
    two = kind == "gru" and reset_after
    for name in bias:
        wide = params.w_x.shape[1:]
        said = f" (reset_after={reset_after})" if kind == "gru" else ""
        check_shape(name + said, arrays[name], (2, *wide) if two else wide)
        b = regroup(arrays[name], order, GATES[kind])
        params = params._replace(b=b[0], b_s=b[1]) if two else params._replace(b=b)
    return part_candidate(params) if kind == "gru" and not reset_after else params


def to_keras(params: Any, kind: str = "lstm") -> list[Any]:
    """A Keras layer's weights from a cell's parameters, the inverse of `from_keras`.

    For `layer.set_weights`. Where a GRU resets is read off the parameters; Keras's
    layer has to have `reset_after` accordingly, and `use_bias=False` for parameters
    without any bias. An "elman" and an "lstm" get b + b_s as their one bias.

    Args:
        params: `Params`, or `Directions` of them for a `keras.layers.Bidirectional`.
    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_choice("kind", kind, list(GATES))
    weights = []
    for name, side in sides("params", params).items():
        side = read_params(name, side, kind, reset_after=None)
        found: list[Any] = [side.w_x, side.w_s]
        if has_bias(side) and kind == "gru" and side.own is None:
            found.append(concatenate([b[None] for b in both_biases(side)], axis=0))
        elif has_bias(side):
            found.append(with_one_bias(side).b)
        weights += [regroup(a, GATES[kind], _ORDER[kind]) for a in found]
    return weights
