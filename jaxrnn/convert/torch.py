"""`torch.nn.RNN`, `LSTM` and `GRU`, and their cells, by their state dict.

    weight_ih_l{k}{_reverse} [G·H, D]    W_xᵀ of layer k    bias_ih... [G·H]    b
    weight_hh_l{k}{_reverse} [G·H, H]    W_sᵀ               bias_hh... [G·H]    b_s
    weight_hr_l{k}{_reverse} [P, H]      W_pᵀ, with proj_size=P; weight_hh is [G·H, P]

The order of gates (i, f, g, o; r, z, n) and the sense of z are as in jaxrnn; the
matrices are transposed. An `LSTMCell`, `GRUCell` or `RNNCell` has names without _l{k}.
A layer above the first reads both directions, forward first. The state nests as the
params do: torch's h_n[2k] is layer k forward and h_n[2k+1] backward.
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
_FIRST = {"weight_ih_l0", "weight_hh_l0", "weight_ih", "weight_hh"}
_KINDS = {"LSTM": "lstm", "GRU": "gru", "RNN": "elman"}
_KINDS |= {f"{name}Cell": kind for name, kind in _KINDS.items()}
_NAMES = {"lstm": "an LSTM", "gru": "a GRU", "elman": "an RNN"}


def from_torch(
    source: Any,
    kind: str | None = None,
    *,
    activation: Literal["tanh", "relu"] | None = None,
    prefix: str = "",
) -> tuple[Cell | Layer, Any]:
    """Make a cell or a layer and its parameters from a module or its `state_dict()`.

    Layers, directions, biases and proj_size are read from the keys. One layer in one
    direction is a cell; two directions are `bidirectional`, more layers a `stack`.
    Both biases are kept, so that `to_torch` returns the same numbers. Dropout is not
    read: for it, use `stack(..., dropout=...)` with the same params.

        from_torch(model.rnn)
        from_torch(model.state_dict(), "gru", prefix="rnn.")

    Args:
        source: an nn.RNN, nn.LSTM, nn.GRU, RNNCell, LSTMCell or GRUCell, whose kind and
            nonlinearity are known; or a dict of torch tensors or arrays of one dtype,
            [G·H, D] and so on. They are copied.
        kind: for a dict: "lstm" (the default), "gru" or "elman" (nn.RNN).
        activation: for an "elman" dict, nn.RNN's `nonlinearity`; tanh by default.
        prefix: start of the names to read from a whole model's dict; the others are
            ignored.
    Returns: the cell or layer, and its params as NumPy arrays in the same dtype, or as
             JAX arrays if they came so.
    Raises:  ValueError or TypeError for an unknown kind, missing or extra keys, shapes
             or dtypes that do not fit, or a kind or an activation that is not the
             module's.
    """
    if hasattr(source, "state_dict"):
        source, kind, activation = _read_module(source, kind, activation)
    kind = "lstm" if kind is None else kind
    check_choice("kind", kind, list(GATES))
    state_dict = _under(prefix, source)
    places = _places(state_dict)
    first = places[0][0]
    parts = ["weight_ih", "weight_hh"]
    parts += ["bias_ih", "bias_hh"] * ("bias_ih" + first in state_dict)
    parts += ["weight_hr"] * ("weight_hr" + first in state_dict)
    projected = "weight_hr" in parts
    if kind != "lstm" and projected:
        name = "weight_hr" + first
        raise ValueError(f"{name}: expected only with kind='lstm', got {kind!r}")
    wanted = [part + place for row in places for place in row for part in parts]
    check_keys("state_dict", state_dict, wanted)
    arrays = read({name: state_dict[name] for name in wanted})

    cell = cell_of(kind, activation)
    name = ("weight_hr" if projected else "weight_hh") + first
    check_shape(name, arrays[name], (None, None))
    units = arrays[name].shape[1]
    exposed = arrays[name].shape[0] if projected else units
    _check_gates("weight_hh" + first, arrays, kind, units)
    cell = lstm(projection=exposed) if projected else cell
    params, rows = [], {"w_s": exposed}
    for row in places:
        found = [_params(arrays, place, kind, units, rows) for place in row]
        params.append(found[0] if len(row) == 1 else Directions(*found))
        rows["w_x"] = len(row) * exposed  # for the layers above the first
    layer = cell if len(places[0]) == 1 else bidirectional(cell)
    if len(places) == 1:
        return layer, params[0]
    return stack(*[layer] * len(places)), tuple(params)


def _read_module(module: Any, kind: Any, activation: Any) -> tuple[Any, str, Any]:
    """A module's state dict, kind and nonlinearity, without importing torch."""
    names = [base.__name__ for base in type(module).__mro__]
    found = next((_KINDS[name] for name in names if name in _KINDS), None)
    if found is None:
        raise TypeError(
            f"source: expected one of nn's {list(_KINDS)}, got {names[0]}: give the "
            "module inside it, or its state_dict() with a prefix"
        )
    its = getattr(module, "nonlinearity", None) if found == "elman" else None
    for name, given, own in (("kind", kind, found), ("activation", activation, its)):
        if given not in (None, own):
            raise ValueError(f"{name}: expected {own!r} as the module's, got {given!r}")
    return module.state_dict(), found, its


def _under(prefix: str, state_dict: Any) -> dict[str, Any]:
    """The entries under a prefix, which is removed; or an error with a hint."""
    check_type("source", state_dict, Mapping, "a module or a dict of arrays by name")
    check_type("prefix", prefix, str, "a string")
    named = {str(name): value for name, value in state_dict.items()}
    begun = {name: value for name, value in named.items() if name.startswith(prefix)}
    found = {name.removeprefix(prefix): value for name, value in begun.items()}
    if found.keys() & _FIRST:
        return found
    pairs = ((name, first) for name in named for first in _FIRST)
    starts = {name.removesuffix(first) for name, first in pairs if name.endswith(first)}
    if starts:
        places = " and ".join(map(repr, sorted(starts)))
        raise ValueError(
            f"source: expected weight_ih_l0 and the like under prefix={prefix!r}, "
            f"found under {places}: give prefix={min(starts)!r}"
        )
    return found


def _places(state_dict: Mapping[str, Any]) -> list[list[str]]:
    """The suffixes of the arrays' names, for each layer a list of directions."""
    if "weight_ih" in state_dict or "weight_hh" in state_dict:
        return [[""]]  # an LSTMCell, GRUCell or RNNCell
    layers = 1
    while any(f"weight_ih_l{layers}{end}" in state_dict for end in _ENDS):
        layers += 1
    ends = _ENDS if "weight_ih_l0_reverse" in state_dict else ("",)
    return [[f"_l{k}{end}" for end in ends] for k in range(layers)]


def _check_gates(name: str, arrays: Any, kind: str, units: int) -> None:
    """Raise if the number of gates is another kind's, the most likely mistake."""
    wide, wanted = arrays[name].shape[0], len(GATES[kind])
    for other, gates in GATES.items():
        if other != kind and wide == len(gates) * units:
            raise ValueError(
                f"{name} (kind={kind!r}): expected {wanted} gates of {units} units, "
                f"got {len(gates)}: {_NAMES[other]}? give kind={other!r}"
            )


def _params(arrays: Any, place: str, kind: str, units: int, rows: Any) -> Params:
    """The parameters of one direction of one layer."""
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
    """Make a state dict from the parameters of a cell or a layer.

    It is the inverse of `from_torch`. torch has two biases or none: if only one of b
    and b_s exists, the other becomes zeros. For an `LSTMCell` and the like, remove
    "_l0" from the names.

    Args:
        params: of a cell, of a `bidirectional` of it, or of a `stack` of either.
        kind: as in `from_torch`.
    Returns: a dict of NumPy arrays, [G·H, D] and so on, for `torch.from_numpy`.
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
    """The layers' parameters, keyed by their name in messages."""
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
