"""What a gradient carried forward in time is, and its sum over a sequence."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.checks import check_array, check_cell
from jaxrnn._core.door import as_layer
from jaxrnn._core.numerics import over_batch
from jaxrnn.networks import Network


class Online(NamedTuple):
    """A record of pure functions: a gradient that needs no way back through time.

    init(params, state) -> memory, which holds the state before the first step, parts
        [..., H], and what is carried beside it
    update(params, memory, x, cotangent) -> (memory, grads), one step with x [..., D];
        `cotangent(h)` gives ∂E_t/∂h_t [..., H] from the new output, and grads is the
        step's share of ∂E/∂params, summed over the batch
    """

    init: Callable[[Any, Any], Any]
    update: Callable[[Any, Any, Array, Callable[[Array], Array]], tuple[Any, Any]]


def check_runnable(cell: Any, *, layers: bool = True) -> None:
    """Raise unless it is a cell, or a layer where one will do."""
    if isinstance(cell, Network):
        raise TypeError(
            "cell: expected a Cell or a Layer, got a Network: give net.cell, and "
            "params.cell with it"
        )
    if layers:
        as_layer(cell)
    else:
        check_cell(cell)


def read_cotangent(cotangent: Any, h: Array) -> Array:
    """∂E_t/∂h_t of one step; or an error, unless it is like h."""
    d_h = cotangent(h)
    check_array("cotangents", d_h, h.shape, h.dtype)
    return d_h


def gradient(
    method: Online, params: Any, xs: Array, state: Any, cotangents: Array
) -> Any:
    """The method's ∂E/∂params over a whole sequence, the sum of its steps' shares.

    Shapes:  xs [T, ..., D], state parts [..., H], cotangents = ∂E/∂hs [T, ..., H] -> as
             params.
    Raises:  ValueError or TypeError, at trace time, for cotangents of another length,
             batch or width than the outputs', and as the method does.
    """
    shape = (*jnp.shape(xs)[:-1], *jnp.shape(cotangents)[-1:])
    check_array("cotangents", cotangents, shape, xs.dtype)

    def one_step(carry, step):
        memory, sums = carry
        x, d_h = step
        memory, grads = method.update(params, memory, x, lambda h: d_h)
        return (memory, jax.tree.map(jnp.add, sums, grads)), None

    start = method.init(params, state), jax.tree.map(jnp.zeros_like, params)
    (_, sums), _ = lax.scan(one_step, start, (xs, cotangents))
    return sums


def by_row(f: Callable[..., Any], x: Array) -> Callable[..., Any]:
    """`f` of one row, mapped over the batch axes that x [..., D] has."""
    return over_batch(f, x.ndim - 1)


def sum_rows(grads: Any, params: Any) -> Any:
    """Gradients of rows, [..., *leaf], summed over the batch."""

    def of_leaf(g, p):
        return g.sum(tuple(range(g.ndim - p.ndim)))

    return jax.tree.map(of_leaf, grads, params)


def zeros_by_row(tree: Any, state: Any) -> Any:
    """Zeros [*batch, *leaf] for every leaf; the batch is the state's."""
    first = jax.tree.leaves(state)[0]
    batch = first.shape[:-1]
    return jax.tree.map(lambda a: jnp.zeros((*batch, *a.shape), a.dtype), tree)
