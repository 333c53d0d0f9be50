"""Arguments of `init` and `initial_state`: a key, sizes, a dtype, batch axes."""

from collections.abc import Sequence
from contextlib import suppress
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxrnn._core.checks import check_alive


def is_key(value: Any) -> bool:
    """Whether it is one or many random keys, typed or raw."""
    return isinstance(value, jax.Array | np.ndarray) and (
        value.dtype == jnp.uint32 or jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    )


def check_key(key: Any, name: str = "key") -> None:
    """Raise unless it is one random key, as `jax.random.key` makes them."""
    got = type(key).__name__
    if is_key(key):
        check_alive(name, key)
        wanted = ()
        if key.dtype == jnp.uint32:
            wanted = jax.eval_shape(jax.random.PRNGKey, 0).shape
        if key.shape == wanted:
            return
        got = f"{key.dtype} of shape {key.shape}"
    elif isinstance(key, int):
        got = repr(key)
    raise TypeError(
        f"{name}: expected a random key, such as jax.random.key(0), got {got}"
    )


def float_dtype(dtype: DTypeLike | None) -> jnp.dtype:
    """The dtype of parameters; None is JAX's default, float64 with x64 enabled.

    Raises:  TypeError if it is not floating.
    """
    if dtype is None:
        return jax.dtypes.canonicalize_dtype(float)
    found = dtype
    with suppress(TypeError, ValueError):
        found = jnp.dtype(dtype)
    if not isinstance(found, np.dtype) or not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"dtype: expected a floating dtype, got {found}")
    return found


def batch_axes(batch_shape: Any) -> tuple[int, ...]:
    """The batch axes as a tuple; 8 rows are (8,)."""
    axes = (batch_shape,) if isinstance(batch_shape, Integral) else batch_shape
    if not isinstance(axes, Sequence) or not all(isinstance(n, Integral) for n in axes):
        raise TypeError(
            "batch_shape: expected a number of rows or a tuple such as (8,), "
            f"got {batch_shape!r:.60}"
        )
    if any(n < 0 for n in axes):
        raise ValueError(f"batch_shape: expected no negative number, got {axes}")
    return tuple(map(int, axes))
