"""ONNX's operators RNN, LSTM and GRU, by their inputs W, R, B and P.

    W [directions, G·H, D]     R [directions, G·H, H]     gates i, o, f, c or z, r, h
    B [directions, 2·G·H]      the bias beside W, then the one beside R
    P [directions, 3·H]        peepholes i, o, f

z has the library's sense: h_t = (1-z) ⊙ h̃ + z ⊙ h_{t-1}.

`layout` is of X, Y and the states alone, never of the weights. The library is
time-major: with layout=0, xs = X, and direction d starts from initial_h[d]; with
layout=1 the caller gives xs = X.swapaxes(0, 1), and initial_h[:, d]. The outputs are
[T, B, directions·H], forward first, which is Y with its directions beside each other.

Source: ONNX operators RNN, LSTM and GRU, version 22.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import elman, gru, lstm
from jaxrnn.cells._lstm_parts import Parts
from jaxrnn.cells._parts import Candidate
from jaxrnn.convert.blocks import check_shape, concatenate, regroup, split
from jaxrnn.convert.common import (
    both_biases,
    check_choice,
    read_array,
    read_arrays,
    read_params,
)
from jaxrnn.convert.onnx_gates import (
    Activation,
    gru_cell,
    is_number,
    lstm_cell,
    read_activations,
    rnn_cell,
)
from jaxrnn.layer import Layer
from jaxrnn.layers import Directions, backward_only, bidirectional


class _Op(NamedTuple):
    theirs: str  # the gates in ONNX's order, c being our g and h our n
    ours: str
    activations: tuple[str, ...]


_OPS = {
    "RNN": _Op("h", "h", ("Tanh",)),
    "LSTM": _Op("iofg", "ifgo", ("Sigmoid", "Tanh", "Tanh")),
    "GRU": _Op("zrn", "rzn", ("Sigmoid", "Tanh")),
}
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


class _Options(NamedTuple):
    op: str
    peepholes: bool
    linear_before_reset: int
    input_forget: int
    clip: float | None

    @property
    def before(self) -> bool:
        """Whether it is a GRU whose reset acts before the product."""
        return self.op == "GRU" and not self.linear_before_reset


# From ONNX ------------------------------------------------------------------------


def from_onnx(
    w: Any,
    r: Any,
    b: Any = None,
    p: Any = None,
    *,
    op: Literal["RNN", "LSTM", "GRU"],
    hidden_size: int,
    direction: str = "forward",
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    linear_before_reset: int = 0,
    input_forget: int = 0,
    clip: float | None = None,
    layout: int = 0,
) -> tuple[Cell | Layer, Any]:
    """A cell or a layer, and its parameters, from an ONNX operator's.

    Both biases are kept; but with linear_before_reset=0 the candidate's two are added,
    a sum that `to_onnx` cannot part. With input_forget=1 the forget gate's weights,
    which the operator does not use, are dropped.

    Args:
        w, r, b, p: the operator's inputs W, R, B and P, as arrays; they are copied.
        op, hidden_size, ...: the operator's name and attributes, with ONNX's defaults;
            alpha and beta are consumed in order by the activations that take one, and
            Affine and ScaledTanh have none by default.
        clip: of every activation's input, that of the LSTM's last one, c_t, included,
            as the operator says; onnxruntime (1.32) leaves that one as it is.
        layout: 0 or 1; see the module on how xs and the states are then laid out.
    Returns: a cell for direction="forward", `backward_only` of one for "reverse",
             `bidirectional` for "bidirectional"; and its params as NumPy arrays.
    Raises:  ValueError or TypeError for shapes, dtypes or attributes that do not fit.
    """
    _check_attributes(op, hidden_size, direction, p, linear_before_reset, input_forget)
    check_choice("layout", layout, (0, 1))
    if clip is not None and (not is_number(clip) or not clip > 0):
        raise ValueError(f"clip: expected a positive number or None, got {clip!r}")
    count, gates = _DIRECTIONS[direction], len(_OPS[op].theirs)
    given = {"w": w, "r": r, "b": b, "p": p}
    arrays = read_arrays({k: v for k, v in given.items() if v is not None or k in "wr"})
    shapes = {
        "w": (count, gates * hidden_size, None),
        "r": (count, gates * hidden_size, hidden_size),
        "b": (count, 2 * gates * hidden_size),
        "p": (count, 3 * hidden_size),
    }
    said = f" (op={op!r}, direction={direction!r}, hidden_size={hidden_size})"
    for name, value in arrays.items():
        check_shape(name + said, value, shapes[name])

    options = _Options(
        op, p is not None, linear_before_reset, input_forget, clip and float(clip)
    )
    usual = _OPS[op].activations * count
    functions = read_activations(usual, activations, activation_alpha, activation_beta)
    size = len(functions) // count
    cells = [_cell(options, functions[d * size :][:size]) for d in range(count)]
    params = [
        _read(options, {k: v[d] for k, v in arrays.items()}) for d in range(count)
    ]
    if direction == "bidirectional":
        return bidirectional(*cells), Directions(*params)
    return backward_only(cells[0]) if direction == "reverse" else cells[0], params[0]


def _check_attributes(op, hidden_size, direction, p, linear_before_reset, input_forget):
    check_choice("op", op, tuple(_OPS))
    check_choice("direction", direction, tuple(_DIRECTIONS))
    if type(hidden_size) is not int or hidden_size < 1:
        raise ValueError(
            f"hidden_size: expected a positive integer, got {hidden_size!r}"
        )
    check_choice("linear_before_reset", linear_before_reset, (0, 1))
    check_choice("input_forget", input_forget, (0, 1))
    if linear_before_reset and op != "GRU":
        raise ValueError(f"linear_before_reset: expected 0 for op={op!r}, got 1")
    if input_forget and op != "LSTM":
        raise ValueError(f"input_forget: expected 0 for op={op!r}, got 1")
    if p is not None and op != "LSTM":
        raise ValueError(f"p: expected None for op={op!r}, got peepholes")


def _cell(options: _Options, functions: tuple[Activation, ...]) -> Cell:
    """The library's own cell where it is the same, else one of `onnx_gates`."""
    op, peepholes, linear_before_reset, input_forget, clip = options
    names = tuple(f.name for f in functions)
    usual = clip is None and names == _OPS[op].activations
    if op == "RNN":
        if usual:
            return elman()
        if clip is None and names[0] in ("Relu", "Sigmoid"):
            return elman(names[0].lower())
        return rnn_cell(*functions, clip)
    if op == "LSTM":
        coupled = bool(input_forget)
        if usual:
            parts = peepholes or coupled
            return lstm(peepholes=peepholes, coupled=coupled) if parts else lstm()
        return lstm_cell(*functions, clip, peepholes, coupled)
    if usual:
        return gru() if linear_before_reset else gru(reset_after=False)
    return gru_cell(*functions, clip, bool(linear_before_reset))


def _read(options: _Options, arrays: dict[str, Any]) -> Params:
    """One direction's parameters."""
    theirs, ours, _ = _OPS[options.op]
    ours = "igo" if options.input_forget else ours
    w_x, w_s = (regroup(arrays[name].T, theirs, ours) for name in "wr")
    b = b_s = own = None
    if "b" in arrays:
        b, b_s = (regroup(half, theirs, ours) for half in split(arrays["b"], 2))
    if "p" in arrays:
        p_i, p_o, p_f = split(arrays["p"], 3)
        own = Parts(p_i, None if options.input_forget else p_f, p_o)
    elif options.input_forget:
        own = Parts()
    if options.before:
        both = 2 * w_s.shape[0]  # the columns of r and z
        own, w_s = Candidate(w_s[:, both:]), w_s[:, :both]
        if b is not None and b_s is not None:
            b = concatenate([b[:both], b[both:] + b_s[both:]])
            b_s = b_s[:both]
    return Params(w_x, w_s, b, b_s, own)


# To ONNX --------------------------------------------------------------------------


def to_onnx(
    params: Any, *, op: Literal["RNN", "LSTM", "GRU"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(W, R, B) from the parameters of a cell: `from_onnx` inverted.

    B is None if there is no bias; where only one of b and b_s is there, the other
    becomes zeros. A GRU with `own.w_n` is for linear_before_reset=0, any other for 1.

    Args:
        params: of `elman`, `lstm` or `gru`, or of `backward_only` or `bidirectional`
            of it.
    Raises:  ValueError or TypeError for an unknown op or parameters of another cell.
    """
    check_choice("op", op, tuple(_OPS))
    sides = params if isinstance(params, Directions) else (params,)
    label = "params.{}" if isinstance(params, Directions) else "params"
    parts = [
        _part(label.format(field), side, op)
        for side, field in zip(sides, Directions._fields, strict=False)
    ]
    theirs, ours, _ = _OPS[op]
    for name in ("w_x", "w_s"):
        shapes = [getattr(part, name).shape for part in parts]
        if len(set(shapes)) > 1:
            raise ValueError(f"params: expected equal {name} shapes, got {shapes}")

    def stacked(rows):
        return np.stack([regroup(row, ours, theirs).T for row in rows])

    w, r = stacked([p.w_x for p in parts]), stacked([p.w_s for p in parts])
    if all(p.b is None and p.b_s is None for p in parts):
        return w, r, None
    halves = np.concatenate(
        [stacked(bias) for bias in zip(*map(both_biases, parts), strict=True)], axis=-1
    )
    return w, r, halves


def _part(name: str, params: Any, op: str) -> Params:
    """One direction's parameters as NumPy arrays, a W_n back in W_s."""
    gates = len(_OPS[op].ours)
    part, units = read_params(name, params, gates)
    w_n = getattr(part.own, "w_n", None) if op == "GRU" else None
    if w_n is not None:
        w_n = read_array(f"{name}.own.w_n", w_n)
        check_shape(f"{name}.own.w_n", w_n, (units, units))
        check_shape(f"{name}.w_s", part.w_s, (units, 2 * units))
        b_s = part.b_s
        if b_s is not None:
            b_s = np.concatenate([b_s, np.zeros(units, b_s.dtype)])
        w_s = np.concatenate([part.w_s, w_n], axis=1)
        return part._replace(w_s=w_s, b_s=b_s, own=None)
    if part.own is not None:
        raise ValueError(
            f"{name}.own: expected None for op={op!r}, got {type(part.own).__name__}, "
            "which W, R and B do not hold"
        )
    check_shape(f"{name}.w_s (op={op!r})", part.w_s, (units, gates * units))
    return part
