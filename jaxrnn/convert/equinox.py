"""Equinox's `LSTMCell` and `GRUCell`, by the names of their fields.

    weight_ih [G·H, D], weight_hh [G·H, H], bias [G·H]; a GRU's bias_n [H], inside the
    product that its reset gate scales

The gates' order and the sense of z are the library's own; the matrices are transposed.
"""

from typing import Any

from jaxrnn.cell import Cell, Params
from jaxrnn.convert._common import (
    GATES,
    bias_and_n,
    bias_of_n,
    cell_of,
    check_choice,
    check_shape,
    has_bias,
    one_bias,
    read,
    read_params,
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
    check_choice("kind", kind, _KINDS)
    given = {"weight_ih": weight_ih, "weight_hh": weight_hh}
    fields = read(given | {"bias": bias, "bias_n": bias_n})
    _check(fields, kind)
    w_x, w_s, b, b_n = fields.values()
    b_s = None if b_n is None else bias_of_n(b_n)
    return cell_of(kind), Params(w_x.T, w_s.T, b, b_s)


def _check(fields: dict[str, Any], kind: str) -> None:
    biases = {name: a for name, a in fields.items() if "bias" in name and a is not None}
    if kind == "lstm" and "bias_n" in biases:
        raise ValueError("bias_n: expected None for kind='lstm', got an array")
    if kind == "gru" and len(biases) == 1:
        missing = "bias_n" if "bias" in biases else "bias"
        raise ValueError(f"{missing}: expected both biases or neither, got None")
    check_shape("weight_hh", fields["weight_hh"], (None, None))
    units = fields["weight_hh"].shape[1]
    wide = len(GATES[kind]) * units
    check_shape("weight_hh", fields["weight_hh"], (wide, units))
    check_shape("weight_ih", fields["weight_ih"], (wide, None))
    for name, bias in biases.items():
        check_shape(name, bias, (wide,) if name == "bias" else (units,))


def to_equinox(params: Params, kind: str) -> dict[str, Any]:
    """The fields of an Equinox cell: `from_equinox(**fields, kind=kind)` inverted.

    Biases are None if there is none, for `use_bias=False`. b + b_s is the one bias of
    an LSTM and of a GRU's gates r and z, whose gate n has both.

    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_choice("kind", kind, _KINDS)
    params = read_params("params", params, kind)
    fields = {"weight_ih": params.w_x.T, "weight_hh": params.w_s.T}
    if kind == "lstm":
        return fields | {"bias": one_bias(params) if has_bias(params) else None}
    bias, bias_n = bias_and_n(params) if has_bias(params) else (None, None)
    return fields | {"bias": bias, "bias_n": bias_n}
