"""Shared by the cells: drawing their parameters, and the zero state."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn._core.checks import check_flag, check_positive
from jaxrnn._core.sizes import batch_axes, check_key, float_dtype
from jaxrnn.cell import Init, Params


def init_params(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    gates: int,
    recurrent_gates: int | None = None,
    state_size: int | None = None,
    bias: bool = True,
    recurrent_bias: bool = False,
    dtype: DTypeLike | None = None,
) -> Params:
    """Draw W_x by variance scaling and an orthogonal W_s, each gate separately.

    Shapes:  as in `Params`; biases are zeros, `b_s` only with `recurrent_bias`. W_s is
             [H, G·H], with `recurrent_gates` in place of G and `state_size` in place of
             the first H if given.
    Raises:  ValueError if a size is not positive; TypeError if dtype is not floating
             or bias is not True or False.
    Source:  W_x: LeCun et al. (1998) "Efficient BackProp" §4.6, variance 1/D.
             W_s: Saxe et al. (2014), arXiv 1312.6120.
    """
    check_positive("input_size", input_size)
    check_positive("hidden_size", hidden_size)
    check_flag("bias", bias)
    dtype = float_dtype(dtype)
    back = gates if recurrent_gates is None else recurrent_gates
    rows = hidden_size if state_size is None else state_size
    keys = jax.random.split(key, gates + back)
    draw_x, draw_s = (
        jax.nn.initializers.lecun_normal(),
        jax.nn.initializers.orthogonal(),
    )
    w_x = [draw_x(k, (input_size, hidden_size), jnp.float32) for k in keys[:gates]]
    w_s = [draw_s(k, (rows, hidden_size), jnp.float32) for k in keys[gates:]]
    w_s = jnp.concatenate(w_s, axis=1) if w_s else jnp.zeros((rows, 0), jnp.float32)
    return Params(
        jnp.concatenate(w_x, axis=1).astype(dtype),
        w_s.astype(dtype),
        jnp.zeros(gates * hidden_size, dtype) if bias else None,
        jnp.zeros(back * hidden_size, dtype) if bias and recurrent_bias else None,
    )


def make_init(
    *,
    own: Callable[[Array, Params], Any] | None = None,
    adjust: Callable[[Params], Params] | None = None,
    **sizes: Any,
) -> Init:
    """Make a cell's `init`: both maps by `init_params`, then its own parameters.

    Args:
        own: `own(key, params)` draws the gate map's own parameters.
        adjust: `adjust(params)` changes the parameters last.
        sizes: options of `init_params`, such as `gates`.
    """

    def init(
        key: Array,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
    ) -> Params:
        check_key(key)
        k_maps, k_own = (key, key) if own is None else jax.random.split(key)
        params = init_params(
            k_maps, input_size, hidden_size, bias=bias, dtype=dtype, **sizes
        )
        if own is not None:
            params = params._replace(own=own(k_own, params))
        return params if adjust is None else adjust(params)

    return init


def zero_state(
    state: Any, params: Params, batch_shape: int | Sequence[int] = ()
) -> Any:
    """A state of the NamedTuple class `state` with zeros [*batch_shape, H]."""
    params = own_params(params)
    sizes = [len(params.w_s)] * len(state._fields)
    return state(*zeros_of(params, batch_shape, sizes))


def zeros_of(
    params: Any, batch_shape: int | Sequence[int], sizes: Sequence[int]
) -> list[Array]:
    """Zeros [*batch_shape, N] for each size N, in the parameters' dtype."""
    axes = batch_axes(batch_shape)
    return [jnp.zeros((*axes, n), params.w_s.dtype) for n in sizes]


def own_params(params: Any) -> Params:
    """Return the parameters, or raise if `initial_state` got something else."""
    if not isinstance(params, Params):
        raise TypeError(
            f"params: expected jaxrnn.Params, got {type(params).__name__}: "
            "write cell.initial_state(params, (8,))"
        )
    return params


class Candidate(NamedTuple):
    """`w_n` [H, H], which maps the gated state to the candidate n."""

    w_n: Array


def draw_candidate(key: Array, params: Params) -> Candidate:
    """Draw an orthogonal W_n."""
    units = params.w_s.shape[0]
    w_n = jax.nn.initializers.orthogonal()(key, (units, units), jnp.float32)
    return Candidate(w_n.astype(params.w_s.dtype))
