"""Equinox's `LSTMCell` and `GRUCell`, by the names of their fields.

    weight_ih [G·H, D], weight_hh [G·H, H], bias [G·H]; a GRU's bias_n [H], inside the
    product that its reset gate scales

The gates' order and the sense of z are the library's own; the matrices are transposed.
"""

from typing import Any

from jaxrnn.cell import Cell, Params
from jaxrnn.convert.blocks import (
    GATES,
    bias_and_n,
    cell_of,
    check_export,
    check_kind,
    check_leaves,
    check_shape,
    concatenate,
    one_bias,
    units_of,
    zeros,
)

_KINDS = ("lstm", "gru")


def from_equinox(
    weight_ih: Any, weight_hh: Any, bias: Any = None, bias_n: Any = None, *, kind: str
) -> tuple[Cell, Params]:
    """A cell and its parameters from the fields of an Equinox cell.

    Args:
        bias, bias_n: None for a cell with `use_bias=False`; only a GRU has `bias_n`.
        kind: "lstm" or "gru".
    Raises:  ValueError or TypeError for other shapes or dtypes, or one bias of two.
    """
    check_kind(kind, _KINDS)
    given = {"weight_ih": weight_ih, "weight_hh": weight_hh}
    given |= {"bias": bias, "bias_n": bias_n}
    _check(given, kind)
    b_s = None
    if bias_n is not None:
        b_s = concatenate([zeros(bias_n, 2 * bias_n.shape[0]), bias_n])
    return cell_of(kind), Params(weight_ih.T, weight_hh.T, bias, b_s)


def _check(given: dict[str, Any], kind: str) -> None:
    for name in ("weight_ih", "weight_hh"):
        if given[name] is None:
            raise TypeError(f"{name}: expected a NumPy or JAX array, got None")
    check_leaves("fields", given)
    gates = len(GATES[kind])
    if len(given["weight_hh"].shape) != 2:
        check_shape("weight_hh", given["weight_hh"], (None, None))
    units = units_of("weight_hh (transposed)", given["weight_hh"].T, gates)
    check_shape("weight_ih", given["weight_ih"], (gates * units, None))
    bias, bias_n = given["bias"], given["bias_n"]
    if kind == "lstm" and bias_n is not None:
        raise ValueError("bias_n: expected None for kind='lstm', got an array")
    if kind == "gru" and (bias is None) != (bias_n is None):
        missing = "bias" if bias is None else "bias_n"
        raise ValueError(f"{missing}: expected both biases or neither, got None")
    if bias is not None:
        check_shape("bias", bias, (gates * units,))
    if bias_n is not None:
        check_shape("bias_n", bias_n, (units,))


def to_equinox(params: Params, kind: str) -> dict[str, Any]:
    """The fields of an Equinox cell from a cell's parameters.

    The inverse of `from_equinox(**fields, kind=kind)`.
    Biases are None if there is none, for `use_bias=False`. b + b_s is the one bias of
    an LSTM and of a GRU's gates r and z, whose gate n has both.

    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_kind(kind, _KINDS)
    units = check_export(params, kind)
    fields = {"weight_ih": params.w_x.T, "weight_hh": params.w_s.T}
    if kind == "lstm":
        return {**fields, "bias": one_bias(params)}
    bias, bias_n = bias_and_n(params)
    if bias is not None and bias_n is None:
        bias_n = zeros(bias, units)
    return {**fields, "bias": bias, "bias_n": bias_n}
