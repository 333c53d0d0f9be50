"""`torch.nn.RNN`, `LSTM` and `GRU`, by the names in their state dict.

    weight_ih_l{k}{_reverse} [G·H, D]    W_xᵀ of layer k    bias_ih... [G·H]    b
    weight_hh_l{k}{_reverse} [G·H, H]    W_sᵀ               bias_hh... [G·H]    b_s
    weight_hr_l{k}{_reverse} [P, H]      W_pᵀ, with proj_size=P; weight_hh is [G·H, P]

The gates' order (i, f, g, o; r, z, n) and the sense of z are the library's own; the
matrices are transposed. A layer above the first reads both directions, forward first.
The state nests as the params do: of two directions, torch's h_n[2k] is layer k forward
and h_n[2k+1] backward.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import lstm
from jaxrnn.convert._arrays import (
    check_choice,
    check_keys,
    check_shape,
    check_type,
    copied,
    read,
)
from jaxrnn.convert._blocks import (
    GATES,
    Block,
    both_biases,
    cell_of,
    gather,
    has_bias,
    own_of,
    read_params,
    sides,
)
from jaxrnn.layer import Layer
from jaxrnn.layers import Directions, bidirectional, stack

_ENDS = ("", "_reverse")


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
    check_type("state_dict", state_dict, Mapping, "a mapping of names to arrays")
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

    cell, projected = cell_of(kind, activation), "weight_hr" in parts
    name = "weight_hr_l0" if projected else "weight_hh_l0"
    check_shape(name, arrays[name], (None, None))
    units = arrays[name].shape[1]
    exposed = arrays[name].shape[0] if projected else units
    cell = lstm(projection=exposed) if projected else cell
    params, rows = [], {"w_s": exposed}
    for row in places:
        found = [_params(arrays, place, kind, units, rows) for place in row]
        params.append(found[0] if len(row) == 1 else Directions(*found))
        rows["w_x"] = len(row) * exposed  # of the layers above the first
    layer = cell if len(ends) == 1 else bidirectional(cell)
    if layers == 1:
        return layer, params[0]
    return stack(*[layer] * layers), tuple(params)


def _params(arrays: Any, place: str, kind: str, units: int, rows: Any) -> Params:
    """One direction's of one layer."""
    gates = GATES[kind]
    blocks = {"weight_ih": Block("w_x", gates, transposed=True)}
    blocks |= {"weight_hh": Block("w_s", gates, transposed=True)}
    blocks |= {"bias_ih": Block("b", gates), "bias_hh": Block("b_s", gates)}
    layout = {p + place: block for p, block in blocks.items() if p + place in arrays}
    params = gather(arrays, layout, kind, units, rows)
    w_p = arrays.get("weight_hr" + place)
    if w_p is None:
        return params
    check_shape("weight_hr" + place, w_p, (rows["w_s"], units))
    return params._replace(own=own_of(lstm(projection=len(w_p)), w_p=copied(w_p.T)))


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
            part = read_params(label, side, kind, projection=kind == "lstm")
            found[f"_l{k}{end}"] = part
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
        wanted = "Params, Directions or a tuple of them"
        raise TypeError(f"params: expected {wanted}, got {type(params).__name__}")
    layers = {f"params[{k}]": layer for k, layer in enumerate(params)}
    for name, layer in layers.items():
        if isinstance(layer, Directions) != isinstance(params[0], Directions):
            raise ValueError(
                f"{name}: expected {type(params[0]).__name__} as in the first layer, "
                f"got {type(layer).__name__}"
            )
    return layers
