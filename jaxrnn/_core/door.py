"""Checking the caller's arguments once, and making the carrier of a run."""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import AxisType

from jaxrnn._core.checks import (
    as_array,
    as_arrays,
    check_array,
    check_params,
    check_shape,
    describe,
    no_cell,
    read_alike,
)
from jaxrnn._core.compiler import warn_of_compiler
from jaxrnn._core.inputs import check_features, read_inputs
from jaxrnn._core.marks import Marks, make_marks
from jaxrnn._core.sizes import batch_axes, check_key, is_key
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, CellNoise, Layer, Transition


def as_layer(layer: Any, name: str = "cell") -> Layer:
    """Return a layer as it is, or a cell as a layer of one part; or raise."""
    if isinstance(layer, Layer):
        return layer
    if isinstance(layer, Cell):
        return _of_cell(layer)
    if isinstance(layer, Transition):
        return _of_transition(layer)
    raise TypeError(
        f"{name}: expected a Cell or a Layer, such as lstm() or stack(lstm(), lstm()), "
        f"got {no_cell(layer)}"
    )


@cache
def _of_cell(cell: Cell) -> Layer:
    def init(key, input_size, hidden_size, **options):
        return cell.init(key, input_size, hidden_size, **options)

    def initial_state(params, batch_shape=()):
        check_params(cell, params)
        return cell.initial_state(params, batch_shape)

    def output_size(params):
        return jax.eval_shape(cell.initial_state, params)[0].shape[-1]

    def noise(key, params, xs):
        del key  # a cell draws nothing
        check_features("xs", cell, params, xs)

    def run(apply, carrier, xs):
        return apply(cell, carrier, xs)

    return Layer(init, initial_state, output_size, noise, run, x_ndim=cell.x_ndim)


@cache
def _of_transition(part: Transition) -> Layer:
    def initial_state(params, batch_shape=()):
        axes = batch_axes(batch_shape)
        start = jax.tree.map(jnp.asarray, part.initial_state(params))
        return jax.tree.map(lambda s: jnp.broadcast_to(s, (*axes, *s.shape)), start)

    def noise(key, params, xs):
        del key, params, xs  # random numbers for a step are among its inputs

    def run(apply, carrier, xs):
        return apply(part, carrier, xs)

    return Layer(
        part.init, initial_state, part.output_size, noise, run, x_ndim=part.x_ndim
    )


def read_state(
    name: str, layer: Layer, params: Any, state: Any
) -> tuple[Any, tuple[int, ...]]:
    """Return a state like the layer's, of the batch of its first part, and that batch,
    or raise."""
    leaves = jax.tree.leaves(state)
    row = jax.tree.leaves(jax.eval_shape(lambda: layer.initial_state(params)))
    shape = getattr(leaves[0], "shape", ()) if leaves else ()
    batch = shape[: max(0, len(shape) - row[0].ndim)]
    wanted = jax.eval_shape(lambda: layer.initial_state(params, batch))
    return read_alike(name, state, wanted), batch


def check_forward(layer: Layer) -> None:
    """Raise unless each state follows from the one before."""
    if layer.runs_backward:
        raise ValueError(
            "cell: expected one that runs forward in time, since each state must "
            "follow from the one before; got a layer with a backward direction"
        )


def check_parts(name: str, value: Any, wanted: type, parts: int) -> None:
    """Raise unless a layer's params are a `wanted` of so many parts."""
    if not isinstance(value, wanted) or len(value) != parts:
        got = f"{type(value).__name__}"
        got += f" of {len(value)}" if isinstance(value, Sequence) else ""
        raise TypeError(f"{name}: expected a {wanted.__name__} of {parts}, got {got}")


class _Unsaid:
    """The default of `noise`: not given by the caller."""

    def __repr__(self) -> str:
        return "not said"


UNSAID = _Unsaid()


def enter(
    layer: Layer,
    params: Any,
    xs: Any,
    state: Any = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    reset_to: Any = None,
    noise: Any = UNSAID,
) -> tuple[Carrier, Marks, Any]:
    """Make the carrier, the marks and the inputs of a run from its arguments, or raise.

    The features of cells are checked where their inputs are known, in `route`.
    """
    warn_of_compiler()
    xs, axes = read_inputs(layer.x_ndim, xs)
    _check_mesh(xs)
    start = layer.initial_state(params, axes[1:])
    state = start if state is None else _read_state("state", state, start, axes)
    restart = None
    if reset_to is not None:
        restart = _read_state("reset_to", reset_to, start, axes)
    elif resets is not None:
        restart = start
    marks = make_marks(axes, lengths, resets, mask)
    noise = _read_noise(layer, params, xs, start, axes[0], noise)
    return Carrier(params, state, restart, noise), marks, xs


def _read_state(name: str, state: Any, start: Any, axes: tuple[int, ...]) -> Any:
    try:
        return read_alike(name, state, start)
    except ValueError as error:
        raise ValueError(
            f"{error}, since xs is [T, ..., D] with T, ... = {list(axes)}, a batch of "
            f"{list(axes[1:])}; batch first? time comes first here"
        ) from None
    except TypeError as error:
        raise TypeError(
            f"{error}; a state is what initial_state(params, batch_shape) gives, its "
            "parts replaced"
        ) from None


def _check_mesh(xs: Any) -> None:
    """Raise if xs has an explicit mesh axis: JAX cannot scan over it."""
    mesh = jax.typeof(jax.tree.leaves(xs)[0]).sharding.mesh
    if any(kind == AxisType.Explicit for kind in mesh.axis_types):
        raise ValueError(
            "xs: expected no explicit mesh axes, got a mesh with "
            f"{dict(zip(mesh.axis_names, mesh.axis_types, strict=True))}; make it with "
            "jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,) * axes)"
        )


def _read_noise(
    layer: Layer, params: Any, xs: Any, start: Any, steps: int, noise: Any
) -> Any:
    """The noise of a run: drawn from a key, or checked to be like the layer's."""
    if noise is None:
        return None
    drawn = jax.eval_shape(lambda: layer.noise(jax.random.key(0), params, xs))
    if noise is UNSAID:
        if jax.tree.leaves(drawn):
            raise ValueError(
                "noise: this layer has noise: give a key or what draw_noise gives to "
                "train, or noise=None to evaluate; got nothing"
            )
        return None
    if is_key(noise):
        check_key(noise, "noise")
        return layer.noise(noise, params, xs)
    if drawn is not None:
        return read_alike("noise", noise, drawn)
    if not isinstance(noise, CellNoise):
        raise TypeError(
            f"noise: expected a key, CellNoise or None, got {describe(noise)}"
        )
    if layer.x_ndim is not None:
        raise TypeError(
            "noise: expected None, since a transition takes its noise among its "
            "inputs, got CellNoise"
        )
    return _read_cell_noise(noise, start, steps)


def _read_cell_noise(noise: CellNoise, state: Any, steps: int) -> CellNoise:
    """The caller's own noise as arrays; `route` checks what multiplies W_s and h."""
    by_step = {"hold": noise.hold, "add": noise.add}
    noise = as_arrays("noise", noise._replace(hold=None, add=None))
    for field, given in by_step.items():
        if given is not None and not isinstance(given, type(state)):
            raise TypeError(
                f"noise.{field}: expected {describe(state)} with parts [T, ..., H], "
                f"got {describe(given)}"
            )
        if given is not None:
            names = [f"noise.{field}.{name}" for name in state._fields]
            read = map(partial(_read_part, steps), names, given, state)
            noise = noise._replace(**{field: type(state)(*read)})
    if noise.hold is not None:
        for name, given in zip(state._fields, by_step["hold"], strict=True):
            _check_shares(f"noise.hold.{name}", given)
    return noise


def _read_part(steps: int, name: str, given: Any, part: Array) -> Array:
    """What is mixed into a part of the state, [T, ..., H] or [T, 1, ..., 1]."""
    read = as_array(name, given)
    if read.shape != (steps, *[1] * part.ndim):
        check_shape(name, read, (steps, *part.shape))
    check_array(name, read, read.shape, part.dtype)
    return read


def _check_shares(name: str, given: Any) -> None:
    if isinstance(given, Tracer):
        return
    known = np.asarray(given)  # by NumPy: known inside jit, too
    if not ((known >= 0) & (known <= 1)).all():
        raise ValueError(
            f"{name}: expected shares in 0..1, got {known.min()}..{known.max()}"
        )
