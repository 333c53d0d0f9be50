"""Where gates lie in other libraries' arrays, and what cells and parameters they make.

Arrays stay NumPy's or JAX's, traced or not, and keep their dtype.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import elman, gru, lstm
from jaxrnn.convert._arrays import check_keys, check_shape, check_type, labelled, read
from jaxrnn.layers import Directions

GATES = {"elman": "h", "lstm": "ifgo", "gru": "rzn"}  # the library's own order
_OWN = ("w_n", "w_p")  # a gate map's own parameters that another library has


def concatenate(parts: Sequence[Any], axis: int = -1) -> Any:
    """By JAX if one of them is JAX's, else by NumPy."""
    library = jnp if any(isinstance(p, jax.Array) for p in parts) else np
    return library.concatenate(parts, axis)


def split(a: Any, count: int) -> list[Any]:
    """`count` equal blocks of the last axis."""
    width = a.shape[-1] // count
    return [a[..., k * width : (k + 1) * width] for k in range(count)]


def regroup(a: Any, here: str, there: str) -> Any:
    """Blocks of the last axis, one a letter, from the order `here` to `there`: a copy.

    No array of the caller's is handed on, which a later change of it would reach.
    """
    blocks = dict(zip(here, split(a, len(here)), strict=True))
    return concatenate([blocks[gate] for gate in there])


@dataclass(frozen=True)  # and so a leaf of a layout, which a tuple would not be
class Block:
    """What an array of another library's holds: gates of a field of `Params`."""

    field: str
    gates: str  # in the array's order
    transposed: bool = False


def gather(
    trees: Mapping[str, Any],
    layout: Mapping[str, Any],
    kind: str,
    units: int | None = None,
    rows: Mapping[str, int] | None = None,
) -> Params:
    """The parameters from trees of arrays; keys, dtypes and shapes are checked.

    Args:
        layout: the same trees, with a `Block` in the place of each array.
        units: H; w_s's rows by default.
        rows: those of w_x and w_s, where they are known.
    """
    for name, part in layout.items():
        _check_tree(name, trees.get(name), part)
    arrays = read({name: trees.get(name) for name in layout})
    blocks = labelled(layout)
    units = _units(arrays, blocks) if units is None else units
    rows, found = dict(rows or {}), {}
    for name, block in blocks.items():
        field, gates = block.field, block.gates
        wide = len(gates) * units
        shape = (rows.get(field), wide) if field in ("w_x", "w_s") else (wide,)
        shape = shape[::-1] if block.transposed else shape
        check_shape(f"{name} (kind={kind!r})", arrays.get(name), shape)
        array = arrays[name].T if block.transposed else arrays[name]
        rows[field] = array.shape[0]
        parts = zip(gates, split(array, len(gates)), strict=True)
        found[field] = found.get(field, {}) | dict(parts)
    none = np.zeros(units, next(iter(arrays.values())).dtype)  # where n alone has a b_s
    whole = {
        field: concatenate([parts.get(gate, none) for gate in GATES[kind]])
        for field, parts in found.items()
    }
    return Params(**whole)


def _units(arrays: Mapping[str, Any], blocks: Mapping[str, Block]) -> int:
    name = next(name for name, block in blocks.items() if block.field == "w_s")
    check_shape(name, arrays.get(name), (None, None))
    return arrays[name].shape[int(blocks[name].transposed)]


def _check_tree(name: str, tree: Any, layout: Any) -> None:
    if isinstance(layout, Mapping):
        check_keys(name, tree, list(layout))
        for key, part in layout.items():
            _check_tree(f"{name}[{key!r}]", tree[key], part)


def scatter(params: Params, layout: Any, kind: str) -> Any:
    """A tree of arrays from the parameters: `gather` inverted."""

    def array_of(block):
        array = regroup(getattr(params, block.field), GATES[kind], block.gates)
        return array.T if block.transposed else array

    return jax.tree.map(array_of, layout)


def cell_of(kind: str, activation: Any = None) -> Cell:
    """The cell of that kind; `activation` is the Elman cell's alone."""
    if kind == "elman":
        return elman() if activation is None else elman(activation)
    if activation not in (None, "tanh"):
        raise ValueError(
            f"activation: expected None or 'tanh' for kind={kind!r}, got {activation!r}"
        )
    return lstm() if kind == "lstm" else gru()


def own_of(cell: Cell, **parts: Any) -> Any:
    """The record of the gate map's own parameters, with these as its parts."""
    drawn = jax.eval_shape(lambda: cell.init(jax.random.key(0), 1, 1))
    return drawn.own._replace(**parts)


def part_candidate(params: Params) -> Params:
    """Those of `gru(reset_after=False)`, from a W_s [H, 3·H] and a b_s [3·H] or None.

    b_s's n, which the reset gate does not scale there, is added to b's.
    """
    b, b_s, both = params.b, params.b_s, 2 * params.w_s.shape[0]
    own = own_of(gru(reset_after=False), w_n=params.w_s[:, both:])
    if b is not None and b_s is not None:
        b, b_s = concatenate([b[:both], b[both:] + b_s[both:]]), b_s[:both]
    return Params(params.w_x, params.w_s[:, :both], b, b_s, own)


def sides(name: str, params: Any) -> dict[str, Any]:
    """The parameters of each direction, by their names in messages."""
    if isinstance(params, Directions):
        return {f"{name}.{side}": part for side, part in params._asdict().items()}
    return {name: params}


def read_params(
    name: str,
    params: Any,
    kind: str,
    *,
    reset_after: bool | None = True,
    projection: bool = False,
) -> Params:
    """The parameters of a cell of that kind; or a clear error.

    Of a `gru(reset_after=False)`, W_n comes back in W_s, as its last columns, and b_s
    has zeros there; `own` is still there to tell.

    Args:
        reset_after: which GRU it has to be; None for either.
        projection: whether an LSTM may have one.
    """
    check_type(name, params, Params, "jaxrnn.Params")
    _check_own(name, params.own, kind, reset_after, projection)
    fields = {part: getattr(params, part) for part in ("w_x", "w_s", "b", "b_s")}
    fields |= {f"own.{part}": getattr(params.own, part, None) for part in _OWN}
    arrays = read({f"{name}.{part}": a for part, a in fields.items()}, optional=True)
    w_n, w_p = (arrays.get(f"{name}.own.{part}") for part in _OWN)
    gates = GATES[kind]
    recurrent = gates if w_n is None else "rz"
    blocks = {"w_s": Block("w_s", recurrent), "own.w_n": Block("w_s", "n")}
    blocks |= {"w_x": Block("w_x", gates)}
    blocks |= {"b": Block("b", gates), "b_s": Block("b_s", recurrent)}
    layout = {
        f"{name}.{part}": block
        for part, block in blocks.items()
        if part in ("w_x", "w_s") or f"{name}.{part}" in arrays
    }
    if w_p is None:
        return gather(arrays, layout, kind)._replace(own=params.own)
    check_shape(f"{name}.own.w_p", w_p, (None, None))
    found = gather(arrays, layout, kind, w_p.shape[0], {"w_s": w_p.shape[1]})
    return found._replace(own=params.own)


def _check_own(name, own, kind, reset_after, projection) -> None:
    before = kind == "gru" and hasattr(own, "w_n")
    projected = projection and getattr(own, "w_p", None) is not None
    if (own is not None and not (before or projected)) or len(jax.tree.leaves(own)) > 1:
        but = " or a projection alone" if projection else ""
        raise ValueError(
            f"{name}.own: expected None{but} for kind={kind!r}, "
            f"got {type(own).__name__}"
        )
    if kind == "gru" and reset_after is before:
        raise ValueError(
            f"{name}: expected those of gru(reset_after={reset_after}), which is what "
            f"the other library has, got those of gru(reset_after={not before})"
        )


def has_bias(params: Params) -> bool:
    return params.b is not None or params.b_s is not None


def both_biases(params: Params) -> list[Any]:
    """b and b_s, zeros for what is not there."""
    shape, dtype = params.w_x.shape[1:], params.w_x.dtype
    biases = params.b, params.b_s
    return [np.zeros(shape, dtype) if b is None else b for b in biases]


def with_one_bias(params: Params) -> Params:
    """With b + b_s as b, for a library that has no second."""
    b, b_s = both_biases(params)
    return params._replace(b=b + b_s, b_s=None)


def with_bias_of_n(params: Params) -> Params:
    """A GRU's, with b_s's r and z added to b, for a library whose n alone has two.

    The sum reaches r and z alone: the reset gate scales b_s's n and not b's.
    """
    b, b_s = both_biases(params)
    r, z, n = split(b_s, 3)
    b = b + concatenate([r, z, np.zeros(n.shape, n.dtype)])
    return params._replace(b=b, b_s=b_s)
