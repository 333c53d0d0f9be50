"""Keras's `SimpleRNN`, `LSTM` and `GRU`, by their `layer.get_weights()`.

    kernel [D, G·H], recurrent_kernel [H, G·H], bias [G·H], or [2, 3·H] for a GRU with
    reset_after=True: its input side and its recurrent side. No bias: use_bias=False.

Gates: i, f, c, o, which are i, f, g, o here; z, r, h, which are z, r, n here. Keras has
h' = z ⊙ h + (1-z) ⊙ n, so z has the same sense. With α its `activation` and σ its
`recurrent_activation`:

    SimpleRNN  h' = α(a)
    LSTM       i, f, o = σ(a_i, a_f, a_o)     c' = f ⊙ c + i ⊙ α(a_c)     h' = o ⊙ α(c')
    GRU        z, r = σ(a_z, a_r)             n = α(a_h)

Source: Keras 3, keras/src/layers/rnn and keras/src/activations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jaxrnn.layers as layers
from jaxrnn._core.checks import check_flag
from jaxrnn.cell import Cell, Params
from jaxrnn.cells import elman
from jaxrnn.convert._arrays import check_choice, check_shape, check_type, read
from jaxrnn.convert._blocks import (
    GATES,
    Block,
    both_biases,
    concatenate,
    gather,
    has_bias,
    part_candidate,
    read_params,
    regroup,
    sides,
    with_one_bias,
)
from jaxrnn.convert.onnx_gates import onnx_cell
from jaxrnn.layer import Layer

_ORDER = {"elman": "h", "lstm": "ifgo", "gru": "zrn"}
# Keras's activations by ONNX's names, with their constants
_ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "tanh": ("Tanh",),
    "sigmoid": ("Sigmoid",),
    "relu": ("Relu",),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),  # relu6(a + 3) / 6
    "linear": ("Affine", 1.0, 0.0),
    "leaky_relu": ("LeakyRelu", 0.2),
    "elu": ("Elu", 1.0),
    "softsign": ("Softsign",),
    "softplus": ("Softplus",),
}


def from_keras(
    weights: Sequence[Any],
    kind: str = "lstm",
    *,
    activation: str | Callable[[Any], Any] = "tanh",
    recurrent_activation: str = "sigmoid",
    reset_after: bool = True,
    bidirectional: bool = False,
) -> tuple[Cell | Layer, Any]:
    """Make a cell and its parameters from a Keras layer's weights.

    Keras's Masking, with a mask [B, T], is `unroll(cell, params, xs, mask=mask.T)`
    here, with mask [T, B], True where a step counts.

    Args:
        weights: arrays in the order of `layer.get_weights()`.
        kind: "lstm", "gru" or "elman" (SimpleRNN).
        activation: the layer's, by Keras's name: "tanh", "sigmoid", "relu",
            "hard_sigmoid", "linear" (Keras's None), "leaky_relu", "elu", "softsign" or
            "softplus"; for "elman" also a function.
        recurrent_activation: likewise, for the gates of an "lstm" or a "gru". Keras 2's
            hard sigmoid, clip(0.2 a + 0.5, 0, 1), is a different one, not supported.
        reset_after: the option of Keras's GRU.
        bidirectional: True for the weights of a `keras.layers.Bidirectional` of two
            layers of this kind.
    Returns: (cell, Params), or (bidirectional(cell), Directions of Params).
    Raises:  ValueError or TypeError for a wrong number, shape or dtype of arrays, an
             unknown kind, or an option that the kind does not have.
    """
    check_choice("kind", kind, list(GATES))
    check_type("weights", weights, list | tuple, "a list of arrays")
    check_flag("reset_after", reset_after)
    check_flag("bidirectional", bidirectional)
    if kind != "gru" and not reset_after:
        raise ValueError(f"reset_after: expected True for kind={kind!r}, got False")
    cell = _cell(kind, activation, recurrent_activation, reset_after)
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


def _cell(kind: str, activation: Any, recurrent: Any, reset_after: bool) -> Cell:
    """The library's own cell where there is one, else one of ONNX's gate maps."""
    if kind == "elman":
        if recurrent != "sigmoid":
            raise ValueError(
                "recurrent_activation: expected none for kind='elman', "
                f"got {recurrent!r}"
            )
        if callable(activation):
            return elman(activation)  # pyright: ignore[reportArgumentType]
    check_choice("activation", activation, list(_ACTIVATIONS))
    check_choice("recurrent_activation", recurrent, list(_ACTIVATIONS))
    if kind == "elman" and activation == "linear":
        return elman("identity")
    inner, gates = _ACTIVATIONS[activation], _ACTIVATIONS[recurrent]
    functions = {"elman": (inner,), "lstm": (gates, inner, inner)}
    functions |= {"gru": (gates, inner)}
    parts = {} if reset_after else {"reset_after": False}
    return onnx_cell(kind, functions[kind], None, **parts)


def _params(arrays: Mapping[str, Any], kind: str, reset_after: bool) -> Params:
    """The parameters of one direction."""
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
    """Make a Keras layer's weights from a cell's parameters: `from_keras` inverted.

    Keras's GRU needs the `reset_after` that the parameters have, and a layer without
    bias needs `use_bias=False`. An "elman" and an "lstm" get b + b_s as their one bias.

    Args:
        params: `Params`, or `Directions` of them for a `keras.layers.Bidirectional`.
        kind: as in `from_keras`.
    Returns: a list of arrays, [D, G·H] and so on, for `layer.set_weights`.
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
