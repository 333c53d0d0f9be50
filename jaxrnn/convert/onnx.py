"""ONNX's operators RNN, LSTM and GRU, by their inputs W, R, B and P.

    W [directions, G·H, D]     R [directions, G·H, H]     gates i, o, f, c or z, r, h
    B [directions, 2·G·H]      the bias beside W, then the one beside R
    P [directions, 3·H]        peepholes i, o, f

z has the same sense as in jaxrnn: h_t = (1-z) ⊙ h̃ + z ⊙ h_{t-1}.

The attribute `layout` concerns X, Y and the states only, not the weights. jaxrnn is
time-major: with layout=0, xs = X, and direction d starts from initial_h[d]; with
layout=1, xs = X.swapaxes(0, 1), and the start is initial_h[:, d]. The outputs are
[T, B, directions·H], forward first, which is Y with its directions side by side.

Source: ONNX operators RNN, LSTM and GRU, version 22.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrnn._core.checks import check_number, check_positive
from jaxrnn.cell import Cell, Params
from jaxrnn.convert._arrays import check_choice, check_shape, copied, read
from jaxrnn.convert._blocks import (
    GATES,
    both_biases,
    has_bias,
    own_of,
    part_candidate,
    read_params,
    regroup,
    sides,
    split,
)
from jaxrnn.convert.onnx_gates import onnx_cell, read_activations
from jaxrnn.layer import Layer
from jaxrnn.layers import Directions, backward_only, bidirectional

_ORDER = {"elman": "h", "lstm": "iofg", "gru": "zrn"}  # ONNX's c is g, its h is n
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def from_onnx(
    w: Any,
    r: Any,
    b: Any = None,
    p: Any = None,
    *,
    kind: str,
    hidden_size: int,
    direction: str = "forward",
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    linear_before_reset: int = 0,
    input_forget: int = 0,
    clip: float | None = None,
) -> tuple[Cell | Layer, Any]:
    """Make a cell or a layer and its parameters from an ONNX operator's.

    Both biases are kept, except that with linear_before_reset=0 the candidate's two are
    added, and `to_onnx` cannot split the sum. With input_forget=1 the forget gate's
    weights, which the operator does not use, are dropped.

    Args:
        w, r, b, p: the operator's inputs W [directions, G·H, D], R [directions, G·H,
            H], B [directions, 2·G·H] and P [directions, 3·H], as arrays; copied.
        kind: "elman" (the operator RNN), "lstm" or "gru".
        hidden_size, direction, linear_before_reset, input_forget: the operator's
            attributes, with ONNX's defaults.
        activations: names in upper or lower case, as in ONNX Runtime.
        activation_alpha, activation_beta: taken in order by the activations that need
            one; Affine and ScaledTanh have no defaults.
        clip: limit of every activation's input, including c_t in the LSTM, as the
            operator says; onnxruntime (1.32) does not clip c_t.
    Returns: a cell for direction="forward", `backward_only` of one for "reverse",
             `bidirectional` for "bidirectional"; and its params as NumPy arrays, or as
             JAX arrays if they came so.
    Raises:  ValueError or TypeError for shapes, dtypes or attributes that do not fit.
    """
    check_choice("kind", kind, list(GATES))
    check_choice("direction", direction, list(_DIRECTIONS))
    check_positive("hidden_size", hidden_size)
    if clip is not None:
        check_number("clip", clip, low=0)
    for name, value, its in (
        ("linear_before_reset", linear_before_reset, "gru"),
        ("input_forget", input_forget, "lstm"),
    ):
        allowed = (0, 1) if kind == its else (0,)
        check_choice(f"{name} (kind={kind!r})", value, allowed)
    if p is not None and kind != "lstm":
        raise ValueError(f"p: expected None for kind={kind!r}, got peepholes")
    arrays = read({"w": w, "r": r, "b": b, "p": p}, optional=True)
    _check_shapes(arrays, kind, hidden_size, direction)

    parts = {"peepholes": True} if p is not None else {}
    parts |= {"coupled": True} if input_forget else {}
    if kind == "gru" and not linear_before_reset:
        parts |= {"reset_after": False}
    clip = None if clip is None else float(clip)
    count = _DIRECTIONS[direction]
    functions = read_activations(
        kind, count, activations, activation_alpha, activation_beta
    )
    cells = [onnx_cell(kind, row, clip, **parts) for row in functions]
    params = [
        _params(cell, kind, {k: a[d] for k, a in arrays.items()}, parts)
        for d, cell in enumerate(cells)
    ]
    if count == 2:
        return bidirectional(*cells), Directions(*params)
    return backward_only(cells[0]) if direction == "reverse" else cells[0], params[0]


def _check_shapes(arrays: Any, kind: str, units: int, direction: str) -> None:
    count, wide = _DIRECTIONS[direction], len(GATES[kind]) * units
    shapes = {"w": (count, wide, None), "r": (count, wide, units)}
    shapes |= {"b": (count, 2 * wide), "p": (count, 3 * units)}
    said = f" (kind={kind!r}, direction={direction!r}, hidden_size={units})"
    for name, shape in shapes.items():
        if name in arrays or name in "wr":
            check_shape(name + said, arrays.get(name), shape)


def _params(
    cell: Cell, kind: str, arrays: dict[str, Any], parts: dict[str, bool]
) -> Params:
    """The parameters of one direction."""
    there = "igo" if "coupled" in parts else GATES[kind]
    w_x, w_s = (regroup(arrays[name].T, _ORDER[kind], there) for name in "wr")
    b = b_s = None
    if "b" in arrays:
        halves = split(arrays["b"], 2)
        b, b_s = (regroup(half, _ORDER[kind], there) for half in halves)
    params = Params(w_x, w_s, b, b_s)
    if "reset_after" in parts:
        return part_candidate(params)
    own = {}
    if "peepholes" in parts:
        peepholes = split(copied(arrays["p"]), 3)
        own = dict(zip(("p_i", "p_o", "p_f"), peepholes, strict=True))
    if "coupled" in parts:
        own["p_f"] = None
    return params._replace(own=own_of(cell, **own)) if own else params


def to_onnx(
    params: Any, *, kind: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Make an ONNX operator's inputs from a cell's parameters: `from_onnx` inverted.

    If only one of b and b_s exists, the other becomes zeros. A GRU with `own.w_n` needs
    linear_before_reset=0, any other 1.

    Args:
        params: of `elman`, `lstm` or `gru`, or of `backward_only` or `bidirectional`
            of it.
        kind: as in `from_onnx`.
    Returns: (W [directions, G·H, D], R [directions, G·H, H], B [directions, 2·G·H]); B
             is None if there is no bias.
    Raises:  ValueError or TypeError for an unknown kind or parameters of another cell.
    """
    check_choice("kind", kind, list(GATES))
    parts = [
        read_params(name, side, kind, reset_after=None)
        for name, side in sides("params", params).items()
    ]
    for name in ("w_x", "w_s"):
        shapes = [getattr(part, name).shape for part in parts]
        if len(set(shapes)) > 1:
            raise ValueError(f"params: expected equal {name} shapes, got {shapes}")

    if len({part.own is None for part in parts}) > 1:
        raise ValueError("params: expected one linear_before_reset in both directions")

    def stacked(rows):
        return np.stack([regroup(row, GATES[kind], _ORDER[kind]).T for row in rows])

    w, r = stacked([part.w_x for part in parts]), stacked([part.w_s for part in parts])
    if not any(map(has_bias, parts)):
        return w, r, None
    halves = [stacked(rows) for rows in zip(*map(both_biases, parts), strict=True)]
    return w, r, np.concatenate(halves, axis=-1)
