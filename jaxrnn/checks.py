"""What is wrong with the caller's arrays, said at trace time and by name."""

from functools import lru_cache
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, Params


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


def check_params(cell: Cell, params: Params) -> None:
    """Raise unless the parameters are this cell's, as its `init` would shape them."""
    if not isinstance(cell, Cell):
        raise TypeError(
            f"cell: expected a jaxrnn.Cell such as elman(), got {type(cell).__name__}"
        )
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


def check_inputs(cell: Cell, params: Params, xs: Any, state: Any) -> tuple[Array, Any]:
    """The inputs as arrays, with the default state put in; or a clear error."""
    check_params(cell, params)
    _check_features("xs", "[T, ..., {}]", 2, params, xs)
    start = cell.initial_state(params, xs.shape[1:-1])
    if state is None:
        return jnp.asarray(xs), start
    check_alike("state", state, start)
    return jnp.asarray(xs), jax.tree.map(jnp.asarray, state)


def check_step(cell: Cell, params: Params, state: Any, x: Any) -> None:
    """Raise unless these are one step's inputs."""
    check_params(cell, params)
    _check_features("x", "[..., {}]", 1, params, x)
    start = jax.eval_shape(lambda: cell.initial_state(params, x.shape[:-1]))
    check_alike("state", state, start)


def _check_features(name: str, shape: str, rank: int, params: Params, x: Any) -> None:
    dtype, features = params.w_x.dtype, params.w_x.shape[0]
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise TypeError(f"{name}: expected an array, got {type(x).__name__}")
    if x.ndim < rank or x.shape[-1] != features:
        raise ValueError(
            f"{name}: expected shape {shape.format(features)} "
            f"(params.w_x has {features} rows), got {x.shape}"
        )
    if x.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype} as the parameters, got {x.dtype}")


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


def check_flag(name: str, value: Any) -> None:
    """Raise unless the option is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def check_plan(chunk_size: int | None, store: str | None) -> None:
    """Raise unless the chunk size is None or a positive integer, and store a name."""
    if chunk_size is not None and (
        isinstance(chunk_size, bool)
        or not isinstance(chunk_size, int)
        or chunk_size < 1
    ):
        raise ValueError(
            f"chunk_size: expected a positive integer or None, got {chunk_size!r}"
        )
    if store not in (None, "activations", "states", "borders"):
        raise ValueError(
            f"store: expected 'activations', 'states', 'borders' or None, got {store!r}"
        )
