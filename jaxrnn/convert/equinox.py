"""Equinox's `LSTMCell` and `GRUCell`, by their field names.

    weight_ih [G·H, D], weight_hh [G·H, H], bias [G·H]; a GRU's bias_n [H], inside the
    product that its reset gate scales

The gates' order and the sense of z are the library's own; the matrices are transposed.
"""

from typing import Any

from jaxrnn.cell import Cell, Params
from jaxrnn.convert._arrays import check_choice
from jaxrnn.convert._blocks import (
    GATES,
    Block,
    cell_of,
    gather,
    has_bias,
    read_params,
    scatter,
    with_bias_of_n,
    with_one_bias,
)

_KINDS = ("lstm", "gru")


def _layout(kind: str, bias: bool) -> dict[str, Block]:
    gates = GATES[kind]
    layout = {"weight_ih": Block("w_x", gates, transposed=True)}
    layout |= {"weight_hh": Block("w_s", gates, transposed=True)}
    layout |= {"bias": Block("b", gates)} if bias else {}
    return layout | ({"bias_n": Block("b_s", "n")} if bias and kind == "gru" else {})


def from_equinox(
    weight_ih: Any, weight_hh: Any, bias: Any = None, bias_n: Any = None, *, kind: str
) -> tuple[Cell, Params]:
    """Make a cell and its parameters from the fields of an Equinox cell.

    Args:
        weight_ih, weight_hh: arrays [G·H, D] and [G·H, H].
        bias, bias_n: arrays [G·H] and [H], or None for a cell with `use_bias=False`;
            only a GRU has `bias_n`.
        kind: "lstm" or "gru".
    Returns: (cell, Params).
    Raises:  ValueError or TypeError for wrong shapes or dtypes, or if only one of a
             GRU's two biases is given.
    """
    check_choice("kind", kind, _KINDS)
    if kind == "lstm" and bias_n is not None:
        raise ValueError("bias_n: expected None for kind='lstm', got an array")
    if kind == "gru" and (bias is None) != (bias_n is None):
        missing = "bias" if bias is None else "bias_n"
        raise ValueError(f"{missing}: expected both biases or neither, got None")
    fields = {"weight_ih": weight_ih, "weight_hh": weight_hh}
    fields |= {"bias": bias, "bias_n": bias_n}
    return cell_of(kind), gather(fields, _layout(kind, bias is not None), kind)


def to_equinox(params: Params, kind: str) -> dict[str, Any]:
    """Make the fields of an Equinox cell, the inverse of `from_equinox`.

    An LSTM gets b + b_s as its one bias, and so do a GRU's gates r and z; its gate n
    keeps both.

    Args:
        params: `Params` of an `lstm` or a `gru`.
        kind: "lstm" or "gru".
    Returns: arrays [G·H, D] and so on by field; the biases are None for a cell without
             them, as for `use_bias=False`.
    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_choice("kind", kind, _KINDS)
    params = read_params("params", params, kind)
    bias = has_bias(params)
    params = with_bias_of_n(params) if kind == "gru" else with_one_bias(params)
    none = dict.fromkeys(_layout(kind, True))
    return none | scatter(params, _layout(kind, bias), kind)
