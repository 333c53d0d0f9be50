"""Checks of the caller's arguments, at trace time, with errors that name them."""

import math
from collections.abc import Sequence
from functools import lru_cache
from inspect import isfunction
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxrnn._core.trees import check_structure, describe
from jaxrnn.cell import Cell, Params
from jaxrnn.layer import Layer


def check_flag(name: str, value: Any) -> None:
    """Raise unless the option is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise unless the value is one of the choices: names, and perhaps None."""
    if not any(value is choice or value == choice for choice in choices):
        *first, last = (repr(choice) for choice in choices)
        wanted = f"{', '.join(first)} or {last}" if first else last
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")


def check_positive(name: str, value: Any, *, optional: bool = False) -> None:
    """Raise unless the value is a positive integer, or None where that is an option."""
    if optional and value is None:
        return
    if not _is_integer(value) or value < 1:
        wanted = "a positive integer or None" if optional else "a positive integer"
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")


def check_within(name: str, value: Any, low: int, high: int) -> None:
    """Raise unless the value is an integer in low..high."""
    if not _is_integer(value) or not low <= value <= high:
        raise ValueError(f"{name}: expected an integer in {low}..{high}, got {value!r}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_number(
    name: str, value: Any, *, low: float = -math.inf, high: float = math.inf
) -> None:
    """Raise unless the value is a real number with low < value < high."""
    if isinstance(value, Array) and not isinstance(value, Tracer) and not value.ndim:
        value = value.item()
    wanted = "a number"
    if low == 0 and high == math.inf:
        wanted = "a positive number"
    elif (low, high) != (-math.inf, math.inf):
        wanted = f"a number between {low} and {high}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected {wanted}, got {value!r}")
    if not low < float(value) < high:
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")


def check_side_by_side(state: Any) -> None:
    """Raise unless a state's parts are [..., H] of one batch, so that they make one
    vector a row."""
    shapes = [jnp.shape(part) for part in jax.tree.leaves(state)]
    if not shapes or any(shape[:-1] != shapes[0][:-1] for shape in shapes):
        raise ValueError(
            "state: expected parts [..., H] of one batch, since they are laid side by "
            f"side as one vector a row; got shapes {shapes}"
        )


def check_cell(value: Any, why: str = "") -> None:
    """Raise unless it is a cell, and no layer; `why` ends the message."""
    if not isinstance(value, Cell):
        raise TypeError(
            f"cell: expected a Cell, such as elman(), got {no_cell(value)}{why}"
        )


def no_cell(value: Any) -> str:
    """Describe what was given instead of a cell or a layer, with a remedy."""
    if isfunction(value):
        return f"the function {value.__name__}: call it, {value.__name__}()"
    if isinstance(value, Layer):
        return "a Layer: give the cells that it is made of, one by one"
    if isinstance(value, tuple) and {"cell", "cotangents"} <= set(dir(value)):
        return "a Network: give net.cell and params.cell"
    return type(value).__name__


def as_array(name: str, value: Any, *, allow_lists: bool = False) -> Array:
    """Return the value as a JAX array if nothing is lost, or raise.

    As JAX does, float64 becomes float32 unless x64 is enabled. What would lose
    something without a word is refused: a masked array's mask, deleted buffers.
    """
    value = as_numbers(name, value, allow_lists=allow_lists)
    return value if isinstance(value, Array) else jnp.asarray(value)


def as_numbers(name: str, value: Any, *, allow_lists: bool = False) -> Any:
    """The same, but NumPy's arrays stay where they are, in native byte order."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected a plain array, got a masked one, whose mask would be "
            "lost; use its .filled(), and weights or mask for what is left out"
        )
    if isinstance(value, jax.Array):
        check_alive(name, value)
        if jnp.issubdtype(value.dtype, jax.dtypes.extended):
            raise TypeError(f"{name}: expected numbers, got {value.dtype}")
        return value
    plain = isinstance(value, np.ndarray | np.generic)
    plain = plain or (allow_lists and isinstance(value, list | tuple | int | bool))
    if not plain:
        hint = ": give xs.numpy()" if type(value).__module__ == "torch" else ""
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}{hint}")
    if not isinstance(value, np.ndarray | np.generic) and any(
        isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value)
    ):
        return jnp.asarray(value)
    try:
        value = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name}: expected an array, got a ragged list") from None
    if value.dtype.kind not in "biufcV" or value.dtype.names:
        raise TypeError(f"{name}: expected numbers, got {value.dtype}")
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def check_alive(name: str, value: Any) -> None:
    """Raise if JAX has deleted the array's buffers."""
    known = isinstance(value, jax.Array) and not isinstance(value, Tracer)
    if known and value.is_deleted():
        raise ValueError(
            f"{name}: got an array that has been deleted or donated; train_step "
            "donates its state, so keep the one that it returns"
        )


def as_arrays(name: str, tree: Any, *, floats: bool = False) -> Any:
    """A pytree with each leaf read by `as_array`, or by `as_floats`; None stays."""
    read = as_floats if floats else as_array
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: read(name + jax.tree_util.keystr(path), leaf), tree
    )


def as_floats(name: str, value: Any) -> Array:
    """`as_array` of a floating dtype."""
    value = as_array(name, value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}")
    return value


def check_shape(name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raise unless the array has this shape."""
    if tuple(value.shape) != tuple(shape):
        raise ValueError(
            f"{name}: expected shape {list(shape)}, got {list(value.shape)}"
        )


def check_array(name: str, value: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise unless `value` is an array of this shape and dtype."""
    if not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(
            f"{name}: expected an array {list(shape)} of {jnp.dtype(dtype)}, "
            f"got {type(value).__name__}"
        )
    check_shape(name, value, shape)
    if value.dtype != dtype:
        raise TypeError(f"{name}: expected {jnp.dtype(dtype)}, got {value.dtype}")


def read_alike(name: str, value: Any, wanted: Any) -> Any:
    """`value` as arrays with the structure, shapes and dtypes of `wanted`."""
    check_structure(name, value, wanted)
    leaves = jax.tree_util.tree_leaves_with_path(wanted)
    found = []
    for (path, leaf), given in zip(leaves, jax.tree.leaves(value), strict=True):
        label = name + jax.tree_util.keystr(path)
        given = as_array(label, given)
        check_array(label, given, leaf.shape, leaf.dtype)
        found.append(given)
    return jax.tree.unflatten(jax.tree.structure(wanted), found)


def check_alike(name: str, value: Any, wanted: Any) -> None:
    """Raise unless `value` has the structure, shapes and dtypes of `wanted`."""
    read_alike(name, value, wanted)


def check_rank(name: str, value: Any, shape: str, rank: int) -> Array:
    """Return `value` as an array, or raise if it has fewer than `rank` axes."""
    value = as_array(name, value)
    if value.ndim < rank:
        raise ValueError(
            f"{name}: expected an array {shape}, got shape {list(value.shape)}"
        )
    return value


def check_params(cell: Cell, params: Any) -> None:
    """Raise unless the parameters are this cell's, as its `init` would shape them."""
    if not isinstance(params, Params):
        raise TypeError(f"params: expected jaxrnn.Params, got {describe(params)}")
    for name in ("w_x", "w_s", "b", "b_s"):
        value = getattr(params, name)
        if value is not None or name in ("w_x", "w_s"):
            _check_leaf(f"params.{name}", value)
    w_x, w_s = params.w_x, params.w_s
    if w_x.ndim != 2 or w_s.ndim != 2:
        raise ValueError(
            "params: expected matrices w_x [D, G·H] and w_s [H, G·H], "
            f"got shapes {list(w_x.shape)} and {list(w_s.shape)}"
        )
    if not jnp.issubdtype(w_s.dtype, jnp.floating):
        raise TypeError(f"params.w_s: expected a floating dtype, got {w_s.dtype}")
    if jax.dtypes.canonicalize_dtype(w_s.dtype) != w_s.dtype:
        raise TypeError(
            f"params.w_s: got {w_s.dtype}, which JAX narrows unless jax_enable_x64 is "
            "set; expected float32 or a narrower dtype"
        )
    units, rest = divmod(w_x.shape[1], cell.gates)
    units = w_s.shape[0] if rest else units
    wanted = _shapes(cell, w_x.shape[0], units)
    for name, matrix in (("w_x", w_x), ("w_s", w_s)):
        like = getattr(wanted, name)
        if matrix.shape != like.shape:
            raise ValueError(
                f"params.{name}: expected shape {list(like.shape)} for {cell.gates} "
                f"gates of {units} units, got {list(matrix.shape)}; is it another "
                "cell's?"
            )
        check_array(f"params.{name}", matrix, like.shape, w_s.dtype)
    for name, matrix in (("b", w_x), ("b_s", w_s)):
        bias = getattr(params, name)
        if bias is not None:
            check_array(f"params.{name}", bias, matrix.shape[1:], w_s.dtype)
    _check_own(cell, params, wanted.own, units)


def _check_leaf(name: str, value: Any) -> None:
    """Raise unless a parameter is a plain array; without a copy of it."""
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        as_array(name, value)
    elif value.dtype.kind in "OSU" or not value.dtype.isnative:
        raise TypeError(f"{name}: expected numbers of native order, got {value.dtype}")


def _check_own(cell: Cell, params: Params, wanted: Any, units: int) -> None:
    without = _shapes(cell, params.w_x.shape[0], units, bias=False).own
    found = jax.tree.structure(params.own)
    if found == jax.tree.structure(without):
        wanted = without
    elif found != jax.tree.structure(wanted):
        raise TypeError(
            f"params.own: expected {describe(wanted)}, as the cell's init makes it, "
            f"got {describe(params.own)}; with own parameters of your own, replace the "
            "cell's init as well"
        )
    dtype = params.w_s.dtype
    own = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), wanted)
    check_alike("params.own", params.own, own)


@lru_cache
def _shapes(cell: Cell, inputs: int, units: int, *, bias: bool = True) -> Params:
    key = jax.random.key(0)
    return jax.eval_shape(lambda: cell.init(key, inputs, units, bias=bias))
