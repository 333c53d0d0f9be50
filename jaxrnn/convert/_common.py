"""What conversions share: arrays read and checked, gates put in order, own parameters.

Arrays stay NumPy's or JAX's, traced or not, and keep their dtype.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import elman, gru, lstm
from jaxrnn.layers import Directions

GATES = {"elman": "h", "lstm": "ifgo", "gru": "rzn"}  # the library's own order


# What came in ---------------------------------------------------------------------


def read(trees: Mapping[str, Any]) -> dict[str, Any]:
    """The trees, by name, their leaves as arrays, all of one floating dtype.

    NumPy arrays and torch tensors are copied, without importing torch. JAX's stay as
    they are, so that a conversion can be traced and differentiated.
    """
    first: list[tuple[str, Any]] = []

    def leaf(path, value):
        name = path[0].key + jax.tree_util.keystr(path[1:])
        array = _array(name, value)
        first.append((name, array.dtype))
        if array.dtype != first[0][1]:
            raise TypeError(
                f"{name}: expected {first[0][1]} as {first[0][0]}, got {array.dtype}"
            )
        return array

    found = {}
    for name, tree in trees.items():  # one by one: in a tree, keys would be sorted
        found |= jax.tree_util.tree_map_with_path(leaf, {name: tree})
    return found


def _array(name: str, value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # which NumPy has not
            raise TypeError(
                f"{name}: expected float16, float32 or float64, got {value.dtype}; "
                "convert it first by .float()"
            )
        value = value.numpy()
    if not isinstance(value, np.ndarray | jax.Array):
        raise TypeError(
            f"{name}: expected a NumPy or JAX array, got {type(value).__name__}"
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}")
    return value if isinstance(value, jax.Array) else np.array(value)


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise unless the value is one of the choices, True not being 1."""
    if not any(type(value) is type(c) and value == c for c in choices):
        raise ValueError(f"{name}: expected one of {list(choices)}, got {value!r}")


def check_keys(
    name: str,
    tree: Any,
    wanted: Sequence[str] | Mapping[str, Any],
    optional: Sequence[str] = (),
) -> None:
    """Raise unless `tree` is a mapping with these keys and no others.

    Args:
        wanted: the keys, or a mapping that has for each key those of the mapping there.
    """
    if not isinstance(tree, Mapping):
        raise TypeError(
            f"{name}: expected a dict with the keys {list(wanted)}, "
            f"got {type(tree).__name__}"
        )
    missing = [key for key in wanted if key not in tree]
    others = sorted(map(str, set(tree) - set(wanted) - set(optional)))
    if missing or others:
        allowed = f" and perhaps {list(optional)}" if optional else ""
        raise ValueError(
            f"{name}: expected the keys {list(wanted)}{allowed}, "
            f"got {sorted(map(str, tree))}: missing {missing}, unknown {others}"
        )
    if isinstance(wanted, Mapping):
        for key, keys in wanted.items():
            check_keys(f"{name}[{key!r}]", tree[key], keys)


def check_shape(name: str, value: Any, shape: tuple[int | None, ...]) -> None:
    """Raise unless `value` has this shape; None stands for any positive size."""
    if not hasattr(value, "shape"):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    fits = len(value.shape) == len(shape) and all(
        size == wanted if wanted is not None else size > 0
        for size, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"{name}: expected shape [{wanted}], got {list(value.shape)}")


def units_of(name: str, recurrent: Any, gates: int) -> int:
    """H, of a recurrent matrix [H, gates·H]; or a clear error."""
    check_shape(name, recurrent, (None, None))
    check_shape(name, recurrent, (None, gates * recurrent.shape[0]))
    return recurrent.shape[0]


# Gates ----------------------------------------------------------------------------


def concatenate(parts: Sequence[Any], axis: int = -1) -> Any:
    """By JAX if one of them is JAX's, else by NumPy."""
    library = jnp if any(isinstance(p, jax.Array) for p in parts) else np
    return library.concatenate(parts, axis)


def split(a: Any, count: int) -> list[Any]:
    """`count` equal blocks of the last axis."""
    width = a.shape[-1] // count
    return [a[..., k * width : (k + 1) * width] for k in range(count)]


def regroup(a: Any, here: str, there: str) -> Any:
    """Blocks of the last axis, one a letter, from the order `here` to `there`."""
    if here == there:
        return a
    blocks = dict(zip(here, split(a, len(here)), strict=True))
    return concatenate([blocks[gate] for gate in there])


def bias_of_n(b_n: Any) -> Any:
    """The b_s [3·H] of a GRU whose gate n alone has a second bias."""
    return concatenate([np.zeros(2 * b_n.shape[0], b_n.dtype), b_n])


# A cell and what it owns ----------------------------------------------------------


def cell_of(kind: str, activation: Any = None, *, reset_after: bool = True) -> Cell:
    """The cell of that kind; `activation` is the Elman cell's alone."""
    if kind == "elman":
        return elman() if activation is None else elman(activation)
    if activation not in (None, "tanh"):
        raise ValueError(
            f"activation: expected None or 'tanh' for kind={kind!r}, got {activation!r}"
        )
    if kind == "lstm":
        return lstm()
    # As a caller would write it: one record, so that jit sees one static value.
    return gru() if reset_after else gru(reset_after=False)


def own_of(cell: Cell, **parts: Any) -> Any:
    """The record of the gate map's own parameters, with these as its parts."""
    drawn = jax.eval_shape(lambda: cell.init(jax.random.key(0), 1, 1))
    return drawn.own._replace(**parts)


def part_candidate(w_s: Any) -> tuple[Any, Any]:
    """W_s [H, 2·H] and `own`, of `gru(reset_after=False)`, from a W_s [H, 3·H]."""
    both = 2 * w_s.shape[0]
    return w_s[:, :both], own_of(gru(reset_after=False), w_n=w_s[:, both:])


# What goes out --------------------------------------------------------------------


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
    if not isinstance(params, Params):
        raise TypeError(f"{name}: expected jaxrnn.Params, got {type(params).__name__}")
    _check_own(name, params.own, kind, reset_after, projection)
    params = read({name: params})[name]
    _check_shapes(name, params, kind)
    w_n = getattr(params.own, "w_n", None)
    if w_n is None:
        return params
    b_s = params.b_s
    if b_s is not None:
        b_s = concatenate([b_s, np.zeros(len(w_n), b_s.dtype)])
    return params._replace(w_s=concatenate([params.w_s, w_n]), b_s=b_s)


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


def _check_shapes(name: str, params: Params, kind: str) -> None:
    w_n, w_p = (getattr(params.own, part, None) for part in ("w_n", "w_p"))
    gates = len(GATES[kind])
    check_shape(f"{name}.w_x", params.w_x, (None, None))
    units, rest = divmod(params.w_x.shape[1], gates)
    if rest:
        raise ValueError(
            f"{name}.w_x: expected shape [D, {gates}·H], got {list(params.w_x.shape)}"
        )
    rows, columns = units, gates * units
    if w_p is not None:
        check_shape(f"{name}.own.w_p", w_p, (units, None))
        rows = w_p.shape[1]
    if w_n is not None:
        check_shape(f"{name}.own.w_n", w_n, (units, units))
        columns -= units
    check_shape(f"{name}.w_s (kind={kind!r})", params.w_s, (rows, columns))
    if params.b is not None:
        check_shape(f"{name}.b", params.b, (gates * units,))
    if params.b_s is not None:
        check_shape(f"{name}.b_s", params.b_s, (columns,))


def has_bias(params: Params) -> bool:
    return params.b is not None or params.b_s is not None


def both_biases(params: Params) -> list[Any]:
    """b and b_s, zeros for what is not there."""
    shape, dtype = params.w_x.shape[1:], params.w_x.dtype
    biases = params.b, params.b_s
    return [np.zeros(shape, dtype) if b is None else b for b in biases]


def one_bias(params: Params) -> Any:
    """b + b_s, as the one bias of a library that has no second."""
    b, b_s = both_biases(params)
    return b + b_s


def bias_and_n(params: Params) -> tuple[Any, Any]:
    """Of a GRU: b with b_s's r and z added, and b_s's n.

    The sum reaches r and z alone: the reset gate scales b_s's n and not b's.
    """
    b, b_s = both_biases(params)
    r, z, n = split(b_s, 3)
    return b + concatenate([r, z, np.zeros(n.shape, n.dtype)]), n
