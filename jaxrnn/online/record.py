"""The record of a gradient carried forward in time, and its sum over a sequence."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn._core.any_step import varying
from jaxrnn._core.checks import as_arrays, check_shape, read_alike
from jaxrnn._core.door import as_layer, check_forward, read_state
from jaxrnn._core.inputs import axes_of, check_features, read_inputs
from jaxrnn._core.numerics import real_only
from jaxrnn._core.trees import describe
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer, LayerLike


class Online(NamedTuple):
    """A record of pure functions that carry a gradient forward in time.

    init(params, state, x=None) -> memory, which holds the state before the first step,
        parts [..., H], and what the method carries; x is an input like those to come,
        needed by `truncated` of a layer, and if state is None: the rows of x then start
        from the layer's initial state, whose derivative is part of the gradient
    update(params, memory, x, cotangent) -> (memory, grads), one step with x [..., D];
        `cotangent(h)` returns ∂E_t/∂h_t [..., H] for the new output, and grads is the
        step's share of ∂E/∂params, summed over the batch
    layer: the cell or the layer that it learns, as given
    rows: for each part of the memory, the first of the batch's axes, as `in_axes` of
        `jax.vmap`; None for a part that all rows share

    Gradients and cotangents are None in place of integers, booleans and keys. Both
    functions raise a ValueError or TypeError, at trace time, for arguments that do not
    fit the cell.
    """

    init: Callable[..., Any]
    update: Callable[[Any, Any, Any, Callable[[Any], Any]], tuple[Any, Any]]
    layer: LayerLike
    rows: Any = 0


def make(
    cell: LayerLike,
    start: Callable[..., Any],
    advance: Callable[..., Any],
    rows: Any = 0,
) -> Online:
    """Make a method for a cell or a layer; its arguments are checked here.

    start(params, state, batch, x, anew) and advance(params, memory, batch, x,
    cotangent) are `init` and `update` without checks, with `batch` the state's batch
    axes, and `anew` whether the state is the layer's initial state; the memory's field
    `state` is the state.
    """
    layer = as_layer(cell)
    check_forward(layer)

    def init(params, state, x=None):
        anew = state is None
        if anew:
            if x is None:
                raise ValueError(
                    "x: expected an input like those to come, whose rows start from "
                    "the initial state, since state is None; got None"
                )
            _, batch = read_inputs(layer.x_ndim, x, name="x", over_time=False)
            state = layer.initial_state(params, batch)
        else:
            state, batch = read_state("state", layer, params, state)
        x = x if x is None else _read_inputs("x", cell, params, batch, x)
        return start(params, state, batch, x, anew)

    def update(params, memory, x, cotangent):
        state, batch = read_state("memory.state", layer, params, _state_of(memory))
        x = _read_inputs("x", cell, params, batch, x)
        like = partial(start, batch=batch, anew=False)
        check_memory(memory, jax.eval_shape(like, params, state, x=x))
        memory = memory._replace(state=state)
        return advance(params, memory, batch, x, _read(cotangent))

    return Online(init, update, cell, rows)


def check_memory(memory: Any, wanted: Any) -> None:
    """Raise unless it has the structure, shapes and dtypes of what `init` gives."""
    if _kinds(memory) != _kinds(wanted):
        raise TypeError(
            "memory: expected what this method's init gives for such params and "
            f"states, got {describe(memory)} of other parts, shapes or dtypes"
        )


def check_start(name: str, layer: Layer, params: Any) -> None:
    """Raise if the initial state depends on the parameters."""

    def start(params):
        return jax.tree.leaves(real_only(layer.initial_state(params)))

    if any(varying(start, params)):
        raise ValueError(
            f"params: {name} expected an initial state that does not depend on them, "
            "since it does not carry its derivative; got a learned start: see rtrl or "
            "truncated, or give a state"
        )


def where_rows(rows: Any, mask: Any, value: Any, otherwise: Any) -> Any:
    """`value` in the rows of the mask [...], `otherwise` in the rest, and in what all
    rows share; `rows` as in `Online`."""

    def of_leaf(axis, a, b):
        ones = [1] * (a.ndim - axis - mask.ndim)
        return jnp.where(mask.reshape(*[1] * axis, *mask.shape, *ones), a, b)

    def of_part(axis, a, b):
        return b if axis is None else jax.tree.map(partial(of_leaf, axis), a, b)

    return jax.tree.map(
        of_part, rows, value, otherwise, is_leaf=lambda axis: axis is None
    )


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


def _read_inputs(
    name: str,
    cell: LayerLike,
    params: Any,
    batch: tuple[int, ...],
    x: Any,
    *,
    over_time: bool = False,
) -> Any:
    """Return inputs as arrays, or raise unless they have the cell's features and dtype
    and the state's batch.

    The cells of a layer are checked as they run.
    """
    x, axes = read_inputs(cell.x_ndim, x, name=name, over_time=over_time)
    if isinstance(cell, Cell):
        check_features(name, cell, params, x)
    if axes[over_time:] != batch:
        raise ValueError(
            f"{name}: expected the batch {list(batch)} of the state, got "
            f"{list(axes[over_time:])}"
        )
    return x


def _read(cotangent: Any) -> Callable[[Any], Any]:
    """Wrap the caller's ∂E_t/∂h_t: raise unless its result is like h."""
    if not callable(cotangent):
        raise TypeError(
            "cotangent: expected a function of h that gives ∂E/∂h, got "
            f"{describe(cotangent)}"
        )

    def read(h):
        return read_alike("cotangents", cotangent(h), real_only(h))

    return read


def gradient(method: Online, params: Any, xs: Any, state: Any, cotangents: Any) -> Any:
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
    layer = as_layer(method.layer)
    state, batch = read_state("state", layer, params, state)
    xs = _read_inputs("xs", method.layer, params, batch, xs, over_time=True)
    axes = axes_of(layer.x_ndim, xs)
    cotangents = real_only(as_arrays("cotangents", cotangents))
    for d in jax.tree.leaves(cotangents):
        check_shape("cotangents", d, (*axes, *d.shape[len(axes) :]))
    sums = jax.tree.map(jnp.zeros_like, real_only(params))
    if axes[0] == 0:
        return sums
    memory = method.init(params, state, jax.tree.map(lambda a: a[0], xs))

    def one_step(carry, step):
        memory, sums = carry
        x, d_h = step
        memory, grads = method.update(params, memory, x, lambda h: d_h)
        return (memory, jax.tree.map(jnp.add, sums, grads)), None

    (_, sums), _ = lax.scan(one_step, (memory, sums), (xs, cotangents))
    return sums


def sum_rows(grads: Any, batch: tuple[int, ...]) -> Any:
    """Gradients of rows, [*batch, *leaf], summed over the batch."""
    return jax.tree.map(lambda g: g.sum(tuple(range(len(batch)))), grads)


def zeros_by_row(params: Any, axes: tuple[int, ...]) -> Any:
    """Zeros [*axes, *leaf] for every leaf that has a gradient."""
    return jax.tree.map(
        lambda a: jnp.zeros((*axes, *a.shape), a.dtype), real_only(params)
    )
