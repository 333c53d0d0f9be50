"""The record of a gradient carried forward in time, and its sum over a sequence."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.checks import (
    as_array,
    check_array,
    check_features,
    check_rank,
    check_shape,
)
from jaxrnn._core.door import as_layer, check_forward, read_state
from jaxrnn._core.numerics import over_batch
from jaxrnn._core.trees import describe
from jaxrnn.cell import Cell, Params
from jaxrnn.layer import Layer


class Online(NamedTuple):
    """A record of pure functions that carry a gradient forward in time.

    init(params, state) -> memory, which holds the state before the first step, parts
        [..., H], and what the method carries
    update(params, memory, x, cotangent) -> (memory, grads), one step with x [..., D];
        `cotangent(h)` returns ∂E_t/∂h_t [..., H] for the new output, and grads is the
        step's share of ∂E/∂params, summed over the batch

    Both raise a ValueError or TypeError, at trace time, for arguments that do not fit
    the cell.
    """

    init: Callable[[Any, Any], Any]
    update: Callable[[Any, Any, Array, Callable[[Array], Array]], tuple[Any, Any]]


def learner(
    cell: Cell | Layer, start: Callable[..., Any], advance: Callable[..., Any]
) -> Online:
    """Make a method for a cell or a layer; its arguments are checked here.

    start(params, state) and advance(params, memory, x, cotangent) are `init` and
    `update` without checks; the memory's field `state` is the state.
    """
    layer = as_layer(cell)
    check_forward(layer)

    def init(params, state):
        return start(params, read_state("state", layer, params, state))

    def update(params, memory, x, cotangent):
        state = read_state("memory.state", layer, params, _state_of(memory))
        wanted = jax.eval_shape(start, params, state)
        if _kinds(memory) != _kinds(wanted):
            raise TypeError(
                "memory: expected what this method's init gives for such params and "
                f"states, got {describe(memory)} of other parts, shapes or dtypes"
            )
        memory = memory._replace(state=state)
        x = check_rank("x", x, "[..., D]", 1)
        _check_inputs("x", params, x, x.shape[:-1], state)
        return advance(params, memory, x, _read(cotangent))

    return Online(init, update)


def _state_of(memory: Any) -> Any:
    if not hasattr(memory, "state"):
        raise TypeError(
            f"memory: expected what init(params, state) gives, got {describe(memory)}"
        )
    return memory.state


def _kinds(tree: Any) -> Any:
    """The structure of a pytree, and the shape and dtype of every leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(getattr(a, "shape", a), getattr(a, "dtype", a)) for a in leaves]


def _check_inputs(
    name: str, params: Any, x: Array, batch: tuple[int, ...], state: Any
) -> None:
    """Raise unless x has the cell's features and dtype and the state's batch.

    The cells of a layer are checked where their inputs are known.
    """
    if isinstance(params, Params):
        check_features(name, params, x)
    rows = jax.tree.leaves(state)[0].shape[:-1]
    if batch != rows:
        raise ValueError(
            f"{name}: expected the batch {list(rows)} of the state, got {list(batch)}, "
            f"of shape {list(x.shape)}"
        )


def _read(cotangent: Any) -> Callable[[Array], Array]:
    """Wrap the caller's ∂E_t/∂h_t: raise unless its result is like h."""
    if not callable(cotangent):
        raise TypeError(
            "cotangent: expected a function of h that gives ∂E/∂h, got "
            f"{describe(cotangent)}"
        )

    def read(h):
        d_h = as_array("cotangents", cotangent(h))
        check_array("cotangents", d_h, h.shape, h.dtype)
        return d_h

    return read


def gradient(
    method: Online, params: Any, xs: Array, state: Any, cotangents: Array
) -> Any:
    """Sum a method's ∂E/∂params over a whole sequence.

    Shapes:  xs [T, ..., D], state parts [..., H], cotangents = ∂E/∂hs [T, ..., H] ->
             ∂E/∂params, as params.
    Args:
        method: an `Online`, such as `rtrl(cell)`.
    Raises:  TypeError if method is not an `Online`; ValueError or TypeError, at trace
             time, for cotangents that do not fit the outputs, and as the method's own
             functions do.
    """
    if not isinstance(method, Online):
        raise TypeError(
            "method: expected an Online, such as rtrl(elman()), got "
            f"{getattr(method, '__name__', type(method).__name__)}"
        )
    xs = check_rank("xs", xs, "[T, ..., D]", 2)
    cotangents = as_array("cotangents", cotangents)
    check_shape("cotangents", cotangents, (*xs.shape[:-1], *cotangents.shape[-1:]))
    memory = method.init(params, state)
    _check_inputs("xs", params, xs, xs.shape[1:-1], state)

    def one_step(carry, step):
        memory, sums = carry
        x, d_h = step
        memory, grads = method.update(params, memory, x, lambda h: d_h)
        return (memory, jax.tree.map(jnp.add, sums, grads)), None

    start = memory, jax.tree.map(jnp.zeros_like, params)
    (_, sums), _ = lax.scan(one_step, start, (xs, cotangents))
    return sums


def by_row(f: Callable[..., Any], x: Array) -> Callable[..., Any]:
    """Map `f` of one row over the batch axes of x [..., D]."""
    return over_batch(f, x.ndim - 1)


def sum_rows(grads: Any, params: Any) -> Any:
    """Sum the rows' gradients, [..., *leaf], over the batch."""

    def of_leaf(g, p):
        return g.sum(tuple(range(g.ndim - p.ndim)))

    return jax.tree.map(of_leaf, grads, params)


def zeros_by_row(tree: Any, state: Any) -> Any:
    """Zeros [*batch, *leaf] for every leaf, with the state's batch."""
    first = jax.tree.leaves(state)[0]
    batch = first.shape[:-1]
    return jax.tree.map(lambda a: jnp.zeros((*batch, *a.shape), a.dtype), tree)
