"""`torch.nn.RNN`, `LSTM` and `GRU`, by the names in their state dict.

    weight_ih_l{k}{_reverse} [G·H, D]    W_xᵀ of layer k    bias_ih... [G·H]    b
    weight_hh_l{k}{_reverse} [G·H, H]    W_sᵀ               bias_hh... [G·H]    b_s
    weight_hr_l{k}{_reverse} [P, H]      W_pᵀ, with proj_size=P; weight_hh is [G·H, P]

The gates' order (i, f, g, o; r, z, n) and the sense of z are the library's own; the
matrices are transposed. A layer above the first reads both directions, forward first.
The state nests as the params do: of two directions, torch's h_n[2k] is layer k forward
and h_n[2k+1] backward.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxrnn.cell import Cell, Layer, Params
from jaxrnn.cells import lstm
from jaxrnn.convert._arrays import check_choice, check_keys, check_shape, read
from jaxrnn.convert._blocks import (
    GATES,
    both_biases,
    cell_of,
    has_bias,
    own_of,
    read_params,
    sides,
)
from jaxrnn.layers import Directions, bidirectional, stack

_ENDS = ("", "_reverse")


# From torch -----------------------------------------------------------------------


def from_torch(
    state_dict: Mapping[str, Any],
    kind: str = "lstm",
    *,
    activation: Literal["tanh", "relu"] | None = None,
) -> tuple[Cell | Layer, Any]:
    """A cell or a layer, and its parameters, from a module's `state_dict()`.

    Layers, directions, biases and proj_size are read off the keys. One layer in one
    direction is a cell; two directions are `bidirectional`, more layers a `stack`.
    Both biases are kept, so that `to_torch` gives back the same numbers. Dropout is
    not part of a state dict: make it `stack(..., dropout=...)` with the same params.

    Args:
        state_dict: torch tensors or arrays, of one dtype; they are copied.
        kind: "lstm", "gru" or "elman" (nn.RNN).
        activation: of an "elman", nn.RNN's `nonlinearity`; tanh by default.
    Returns: the cell or layer, and its params as NumPy arrays in the same dtype, or as
             JAX's if they came as such.
    Raises:  ValueError or TypeError for an unknown kind, keys that are missing or too
             many, shapes or dtypes that do not fit.
    """
    check_choice("kind", kind, list(GATES))
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            "state_dict: expected a mapping of names to arrays, such as "
            f"nn.LSTM(...).state_dict(), got {type(state_dict).__name__}"
        )
    if kind != "lstm" and "weight_hr_l0" in state_dict:
        raise ValueError(f"weight_hr_l0: expected only with kind='lstm', got {kind!r}")
    layers = 1
    while any(f"weight_ih_l{layers}{end}" in state_dict for end in _ENDS):
        layers += 1
    ends = _ENDS if "weight_ih_l0_reverse" in state_dict else ("",)
    places = [[f"_l{k}{end}" for end in ends] for k in range(layers)]
    parts = ["weight_ih", "weight_hh"]
    parts += ["bias_ih", "bias_hh"] * ("bias_ih_l0" in state_dict)
    parts += ["weight_hr"] * ("weight_hr_l0" in state_dict)
    wanted = [part + place for row in places for place in row for part in parts]
    check_keys("state_dict", state_dict, wanted)
    arrays = read({name: state_dict[name] for name in wanted})
    projection = _check_shapes(arrays, parts, places, kind)

    cell = cell_of(kind, activation)
    cell = cell if projection is None else lstm(projection=projection)
    made = [[_params(cell, arrays, place) for place in row] for row in places]
    params = [row[0] if len(row) == 1 else Directions(*row) for row in made]
    layer = cell if len(ends) == 1 else bidirectional(cell)
    if layers == 1:
        return layer, params[0]
    return stack(*[layer] * layers), tuple(params)


def _check_shapes(
    arrays: Mapping[str, Any], parts: Sequence[str], places: Any, kind: str
) -> int | None:
    """P, or None without a projection."""
    projected = "weight_hr" in parts
    name = "weight_hr_l0" if projected else "weight_hh_l0"
    check_shape(name, arrays[name], (None, None))
    rows, units = arrays[name].shape
    exposed, wide = rows if projected else units, len(GATES[kind]) * units
    shapes: dict[str, Any] = {"weight_hh": (wide, exposed), "weight_hr": (rows, units)}
    shapes |= {"weight_ih": (wide, None), "bias_ih": (wide,), "bias_hh": (wide,)}
    for row in places:
        for place in row:
            for part in parts:
                name = part + place
                check_shape(f"{name} (kind={kind!r})", arrays[name], shapes[part])
        shapes["weight_ih"] = (wide, len(row) * exposed)
    return rows if projected else None


def _params(cell: Cell, arrays: Mapping[str, Any], place: str) -> Params:
    """One direction's of one layer."""
    w_x, w_s = arrays["weight_ih" + place].T, arrays["weight_hh" + place].T
    w_p = arrays.get("weight_hr" + place)
    own = None if w_p is None else own_of(cell, w_p=w_p.T)
    b, b_s = arrays.get("bias_ih" + place), arrays.get("bias_hh" + place)
    return Params(w_x, w_s, b, b_s, own)


# To torch -------------------------------------------------------------------------


def to_torch(params: Any, kind: str = "lstm") -> dict[str, np.ndarray]:
    """A state dict from the parameters of a cell or a layer: `from_torch` inverted.

    Each array can go through `torch.from_numpy`. torch has two biases or none: where
    only one of b and b_s is there, the other becomes zeros.

    Args:
        params: of a cell, of a `bidirectional` of it, or of a `stack` of either.
        kind: as in `from_torch`.
    Raises:  ValueError or TypeError for an unknown kind, for parameters of another
             kind of cell or layer, or for layers that differ in directions.
    """
    check_choice("kind", kind, list(GATES))
    found = {}
    for k, (name, layer) in enumerate(_layers(params).items()):
        for end, (label, side) in zip(_ENDS, sides(name, layer).items(), strict=False):
            found[f"_l{k}{end}"] = read_params(
                label, side, kind, projection=kind == "lstm"
            )
    bias = any(map(has_bias, found.values()))
    if len({part.own is None for part in found.values()}) > 1:
        raise ValueError("params: expected a projection in every layer or in none")
    state_dict = {}
    for place, part in found.items():
        values = {"weight_ih": part.w_x.T, "weight_hh": part.w_s.T}
        if bias:
            values |= zip(("bias_ih", "bias_hh"), both_biases(part), strict=True)
        if part.own is not None:
            values["weight_hr"] = part.own.w_p.T
        for name, value in values.items():
            state_dict[name + place] = np.array(value, order="C")
    return state_dict


def _layers(params: Any) -> dict[str, Any]:
    """The layers' parameters, by their names in messages."""
    if isinstance(params, Params | Directions):
        return {"params": params}
    if not isinstance(params, tuple) or not params:
        raise TypeError(
            "params: expected Params, Directions or a tuple of them, "
            f"got {type(params).__name__}"
        )
    layers = {f"params[{k}]": layer for k, layer in enumerate(params)}
    for name, layer in layers.items():
        if isinstance(layer, Directions) != isinstance(params[0], Directions):
            raise ValueError(
                f"{name}: expected {type(params[0]).__name__} as in the first layer, "
                f"got {type(layer).__name__}"
            )
    return layers
