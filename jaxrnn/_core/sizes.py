"""What `init` and `initial_state` are asked for: a key, sizes, a dtype, batch axes."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def check_key(key: Any) -> None:
    """Raise unless it is one random key, as `jax.random.key` makes them."""
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if (typed and key.ndim == 0) or (dtype == jnp.uint32 and key.ndim == 1):
        return
    got = f"keys of shape {key.shape}" if typed else type(key).__name__
    got = repr(key) if isinstance(key, int) else got
    raise TypeError(f"key: expected a random key, such as jax.random.key(0), got {got}")


def float_dtype(dtype: DTypeLike | None) -> jnp.dtype:
    """The dtype of parameters; None is JAX's own float, float64 with x64 enabled.

    Raises:  TypeError if it is not floating.
    """
    if dtype is None:
        dtype = jax.dtypes.canonicalize_dtype(float)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype: expected a floating dtype, got {jnp.dtype(dtype)}")
    return jnp.dtype(dtype)


def batch_axes(batch_shape: Any) -> tuple[int, ...]:
    """The batch axes as a tuple; 8 rows are (8,)."""
    axes = (batch_shape,) if isinstance(batch_shape, Integral) else batch_shape
    if not isinstance(axes, Sequence) or not all(isinstance(n, Integral) for n in axes):
        raise TypeError(
            "batch_shape: expected a number of rows or a tuple such as (8,), "
            f"got {batch_shape!r:.60}"
        )
    return tuple(map(int, axes))
