"""What is wrong with the caller's arguments, said at trace time and by name."""

import math
from collections.abc import Sequence
from functools import lru_cache
from numbers import Real
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from jaxrnn.cell import Cell, Params


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
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        wanted = "a positive integer or None" if optional else "a positive integer"
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")


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
    if not low < value < high:
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


def check_cell(value: Any) -> None:
    """Raise unless it is a cell, where a layer will not do."""
    if not isinstance(value, Cell):
        raise TypeError(
            f"cell: expected a Cell, such as elman(), got {type(value).__name__}"
        )


def check_array(name: str, value: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise unless `value` is an array of this shape and dtype."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(
            f"{name}: expected an array {list(shape)} of {jnp.dtype(dtype)}, "
            f"got {type(value).__name__}"
        )
    chex.assert_shape(
        value,
        shape,
        custom_message=name,
        exception_type=ValueError,
    )
    if value.dtype != dtype:
        raise TypeError(f"{name}: expected {jnp.dtype(dtype)}, got {value.dtype}")


def check_alike(name: str, value: Any, wanted: Any) -> None:
    """Raise unless `value` has the structure, shapes and dtypes of `wanted`."""
    structure = jax.tree.structure(wanted)
    if jax.tree.structure(value) != structure:
        raise TypeError(
            f"{name}: expected the structure of {type(wanted).__name__}, "
            f"{structure}, got {jax.tree.structure(value)}"
        )
    leaves = jax.tree_util.tree_leaves_with_path(wanted)
    for (path, leaf), given in zip(leaves, jax.tree.leaves(value), strict=True):
        label = name + jax.tree_util.keystr(path)
        check_array(label, given, leaf.shape, leaf.dtype)


def check_rank(name: str, value: Any, shape: str, rank: int) -> Array:
    """`value` as an array; or an error, unless it has `rank` axes or more."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(
            f"{name}: expected an array {shape}, got {type(value).__name__}"
        )
    if len(value.shape) < rank:
        raise ValueError(f"{name}: expected an array {shape}, got shape {value.shape}")
    kept = jax.dtypes.canonicalize_dtype(value.dtype)
    if kept != value.dtype and jnp.issubdtype(kept, jnp.floating):
        raise TypeError(
            f"{name}: expected {kept}, got {value.dtype}, which JAX narrows unless "
            "jax_enable_x64 is set"
        )
    return jnp.asarray(value)


def check_features(name: str, params: Params, x: Array) -> None:
    """Raise unless x [..., D] has the cell's D features and its parameters' dtype."""
    dtype, features = params.w_x.dtype, params.w_x.shape[0]
    if x.shape[-1] != features:
        raise ValueError(
            f"{name}: expected shape [..., {features}] "
            f"(params.w_x has {features} rows), got {x.shape}"
        )
    if x.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype} as the parameters, got {x.dtype}")


def check_params(cell: Cell, params: Any) -> None:
    """Raise unless the parameters are this cell's, as its `init` would shape them."""
    if not isinstance(params, Params):
        raise TypeError(f"params: expected jaxrnn.Params, got {type(params).__name__}")
    w_x, w_s = params.w_x, params.w_s
    if w_x.ndim != 2 or w_s.ndim != 2:
        raise ValueError(
            "params: expected matrices w_x [D, G·H] and w_s [H, G·H], "
            f"got shapes {w_x.shape} and {w_s.shape}"
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
    check_array("params.w_x", w_x, wanted.w_x.shape, w_s.dtype)
    check_array("params.w_s", w_s, wanted.w_s.shape, w_s.dtype)
    for name, matrix in (("b", w_x), ("b_s", w_s)):
        bias = getattr(params, name)
        if bias is not None:
            check_array(f"params.{name}", bias, matrix.shape[1:], w_s.dtype)
    without = _shapes(cell, w_x.shape[0], units, bias=False).own
    same = jax.tree.structure(params.own) == jax.tree.structure(without)
    own = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, w_s.dtype),
        without if same else wanted.own,
    )
    check_alike("params.own", params.own, own)


@lru_cache
def _shapes(cell: Cell, inputs: int, units: int, *, bias: bool = True) -> Params:
    key = jax.random.key(0)
    return jax.eval_shape(lambda: cell.init(key, inputs, units, bias=bias))
