"""Haiku's cores `LSTM`, `GRU` and `VanillaRNN`, as `init` gives their parameters.

    LSTM: {"lstm/linear": w [D + H, 4·H] on [x, h], b [4·H]}, gates i, g, f, o
    GRU: {"gru": w_i [D, 3·H], w_h [H, 3·H], b [3·H]}, gates z, r, a
    VanillaRNN: {"vanilla_rnn/linear": w [D, H], b; "vanilla_rnn/linear_1": w [H, H], b}

Its LSTM adds 1 to the forget gate when it runs: b_f here is Haiku's plus 1. Its GRU
resets before the product, and its z is the share of the new: h' = (1-z) ⊙ h + z ⊙ a.
Since 1 - σ(a) = σ(-a), the library's z has the negated weights, exactly.
"""

from collections.abc import Mapping
from typing import Any

from jaxrnn.cell import Cell, Params
from jaxrnn.convert.blocks import (
    GATES,
    cell_of,
    check_export,
    check_kind,
    check_leaves,
    check_shape,
    concatenate,
    entries,
    one_bias,
    own_of,
    regroup,
    split,
    units_of,
    zeros,
)

_CORES = {"elman": "vanilla_rnn", "lstm": "lstm", "gru": "gru"}


def from_haiku(params: Mapping[str, Any], kind: str = "lstm") -> tuple[Cell, Params]:
    """A cell and its parameters from those of a Haiku core.

    A forget gate's b_f is rounded where Haiku's plus 1 has more digits than the dtype:
    exported again, it is Haiku's to that rounding. All else is exact.

    Args:
        params: the core's modules alone; what comes before the last "/" is free.
        kind: "lstm", "gru" or "elman" (VanillaRNN, whose activation is relu).
    Raises:  ValueError or TypeError for other keys, shapes or dtypes.
    """
    check_kind(kind, list(_CORES))
    modules = _modules(params, kind)
    check_leaves("params", params)
    if kind == "lstm":
        return cell_of(kind), _from_lstm(*modules)
    if kind == "gru":
        return cell_of(kind, reset_after=False), _from_gru(*modules)
    return cell_of(kind, "relu"), _from_vanilla(*modules)


def _modules(params, kind) -> list[tuple[str, Any]]:
    """(label, entries) of each module of the core, in the order of its calls."""
    keys = {"lstm": ("w", "b"), "gru": ("w_i", "w_h", "b"), "elman": ("w",)}[kind]
    count = 2 if kind == "elman" else 1
    if not isinstance(params, Mapping):
        raise TypeError(
            "params: expected a dict of modules such as "
            f"{list(_named(kind))}, got {type(params).__name__}"
        )
    found = sorted(params)  # "…/linear" is before "…/linear_1"
    lasts = [name.rsplit("/", 1)[-1] for name in found]
    wanted = ["linear", "linear_1"] if kind == "elman" else ["linear"]
    if len(found) != count or (kind != "gru" and lasts != wanted):
        raise ValueError(
            f"params: expected the modules {list(_named(kind))}, whatever is before "
            f"the last '/', got {found}"
        )
    optional = ("b",) if kind == "elman" else ()
    labels = [f"params[{name!r}]" for name in found]
    return [
        (label, entries(label, params[name], keys, optional))
        for label, name in zip(labels, found, strict=True)
    ]


def _named(kind: str, name: str | None = None) -> tuple[str, ...]:
    core = name or _CORES[kind]
    ends = {"lstm": ("/linear",), "gru": ("",), "elman": ("/linear", "/linear_1")}
    return tuple(core + end for end in ends[kind])


def _from_lstm(module) -> Params:
    label, tree = module
    w, b = tree["w"], tree["b"]
    if len(w.shape) != 2 or w.shape[1] % 4 or not 0 < w.shape[1] < 4 * w.shape[0]:
        raise ValueError(
            f"{label}['w']: expected shape [D + H, 4·H], got {list(w.shape)}"
        )
    check_shape(f"{label}['b']", b, (w.shape[1],))
    w, units = regroup(w, "igfo", GATES["lstm"]), w.shape[1] // 4
    b = _forget_plus(regroup(b, "igfo", GATES["lstm"]), 1)
    return Params(w[:-units], w[-units:], b)


def _forget_plus(b: Any, number: int) -> Any:
    i, f, g, o = split(b, 4)
    return concatenate([i, f + number, g, o])


def _from_gru(module) -> Params:
    label, tree = module
    w_i, w_h, b = tree["w_i"], tree["w_h"], tree["b"]
    units = units_of(f"{label}['w_h']", w_h, 3)
    check_shape(f"{label}['w_i']", w_i, (None, 3 * units))
    check_shape(f"{label}['b']", b, (3 * units,))

    def rzn(a):
        z, r, n = split(a, 3)
        return concatenate([r, -z, n])

    w_h, own = rzn(w_h), own_of(w_h[:, 2 * units :])
    return Params(rzn(w_i), w_h[:, : 2 * units], rzn(b), None, own)


def _from_vanilla(on_x, on_h) -> Params:
    (x_label, on_x), (h_label, on_h) = on_x, on_h
    units = units_of(f"{h_label}['w']", on_h["w"], 1)
    check_shape(f"{x_label}['w']", on_x["w"], (None, units))
    for label, tree in ((x_label, on_x), (h_label, on_h)):
        if "b" in tree:
            check_shape(f"{label}['b']", tree["b"], (units,))
    return Params(on_x["w"], on_h["w"], on_x.get("b"), on_h.get("b"))


def to_haiku(
    params: Params, kind: str = "lstm", *, name: str | None = None
) -> dict[str, dict[str, Any]]:
    """A Haiku core's parameters from a cell's, the inverse of `from_haiku`.

    A missing b becomes zeros, and an "lstm" or "gru" gets b + b_s as its one bias. An
    "elman" without a b_s is a VanillaRNN with `double_bias=False`.

    Args:
        kind: "lstm"; "gru", whose parameters are those of `gru(reset_after=False)`; or
            "elman", which has to be `elman("relu")`.
        name: the core's module name in full; Haiku's own by default, such as "lstm".
    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_kind(kind, list(_CORES))
    check_export(params, kind, reset_after=kind != "gru")
    names = _named(kind, name)
    w_x, w_s, width = params.w_x, params.w_s, params.w_x.shape[1]
    if kind == "elman":
        b = zeros(w_x, width) if params.b is None else params.b
        on_h = {"w": w_s} if params.b_s is None else {"w": w_s, "b": params.b_s}
        return dict(zip(names, ({"w": w_x, "b": b}, on_h), strict=True))
    b = one_bias(params)
    b = zeros(w_x, width) if b is None else b
    if kind == "lstm":
        w = regroup(concatenate([w_x, w_s], axis=0), GATES["lstm"], "igfo")
        return {names[0]: {"w": w, "b": regroup(_forget_plus(b, -1), "ifgo", "igfo")}}

    def zra(a):
        r, z, n = split(a, 3)
        return concatenate([-z, r, n])

    w_h = zra(concatenate([w_s, params.own.w_n]))
    return {names[0]: {"w_i": zra(w_x), "w_h": w_h, "b": zra(b)}}
