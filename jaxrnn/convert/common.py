"""Arrays read as NumPy's, of torch tensors as well, and checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrnn.cell import Params
from jaxrnn.convert.blocks import check_shape


def read_array(name: str, value: Any) -> Any:
    """A copy as a NumPy array; of a torch tensor as well, without importing torch.

    What JAX traces stays traced, so that a conversion can be differentiated.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # which NumPy has not
            raise TypeError(
                f"{name}: expected float16, float32 or float64, got {value.dtype}; "
                "convert it first by .float()"
            )
        value = value.numpy()
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    value = value if isinstance(value, Tracer) else np.array(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}")
    return value


def read_arrays(given: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of them all, of one floating dtype."""
    arrays = {name: read_array(name, value) for name, value in given.items()}
    for name, value in arrays.items():
        first = next(iter(arrays))
        if value.dtype != arrays[first].dtype:
            raise TypeError(
                f"{name}: expected {arrays[first].dtype} as {first}, got {value.dtype}"
            )
    return arrays


def check_keys(name: str, given: Mapping[str, Any], wanted: Sequence[str]) -> None:
    """Raise unless the keys are these and no others."""
    missing = [key for key in wanted if key not in given]
    if missing:
        raise ValueError(f"{name}: expected the keys {missing}, which are missing")
    others = sorted(map(str, set(given) - set(wanted)))
    if others:
        raise ValueError(f"{name}: expected only {list(wanted)}, got also {others}")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise unless the value is one of the choices, True not being 1."""
    if not any(type(value) is type(c) and value == c for c in choices):
        raise ValueError(f"{name}: expected one of {list(choices)}, got {value!r}")


def read_params(name: str, params: Any, gates: int) -> tuple[Params, int]:
    """A cell's parameters as NumPy arrays, and H; or a clear error.

    W_s may have the columns of fewer gates, and b_s as many.
    """
    if not isinstance(params, Params):
        raise TypeError(f"{name}: expected jaxrnn.Params, got {type(params).__name__}")
    given = {
        f"{name}.{field}": getattr(params, field)
        for field in ("w_x", "w_s", "b", "b_s")
        if getattr(params, field) is not None
    }
    arrays = read_arrays(given)
    w_x, w_s, b, b_s = (
        arrays.get(f"{name}.{field}") for field in ("w_x", "w_s", "b", "b_s")
    )
    if w_x is None or w_s is None:
        missing = "w_x" if w_x is None else "w_s"
        raise TypeError(f"{name}.{missing}: expected an array, got None")
    check_shape(f"{name}.w_s", w_s, (None, None))
    if w_x.ndim != 2 or w_x.shape[1] % gates or not w_x.shape[1]:
        raise ValueError(
            f"{name}.w_x: expected shape [D, {gates}·H], got {list(w_x.shape)}"
        )
    if b is not None:
        check_shape(f"{name}.b", b, w_x.shape[1:])
    if b_s is not None:
        check_shape(f"{name}.b_s", b_s, w_s.shape[1:])
    return Params(w_x, w_s, b, b_s, params.own), w_x.shape[1] // gates


def both_biases(params: Params) -> tuple[Any, Any]:
    """b and b_s, zeros for what is not there."""
    columns = params.w_x.shape[1], params.w_s.shape[1]
    b, b_s = (
        np.zeros(wide, params.w_x.dtype) if bias is None else np.asarray(bias)
        for bias, wide in zip((params.b, params.b_s), columns, strict=True)
    )
    return b, b_s
