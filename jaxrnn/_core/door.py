"""The caller's arguments, checked once, as what a run takes."""

from collections.abc import Sequence
from functools import cache
from inspect import isfunction
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.checks import check_alike, check_params, check_rank
from jaxrnn._core.marks import Marks, make_marks
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, CellNoise, Layer


def as_layer(layer: Any, name: str = "cell") -> Layer:
    """A layer as it is, or a cell as a layer of one part; or a clear error."""
    if isinstance(layer, Layer):
        return layer
    if isinstance(layer, Cell):
        return _of_cell(layer)
    got = type(layer).__name__
    if isfunction(layer):
        got = f"the function {layer.__name__}: call it, {layer.__name__}()"
    elif isinstance(layer, tuple) and {"cell", "cotangents"} <= set(dir(layer)):
        got = "a Network: give net.cell and params.cell"
    raise TypeError(
        f"{name}: expected a Cell or a Layer, such as lstm() or stack(lstm(), lstm()), "
        f"got {got}"
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
        del key, params, xs  # a cell draws nothing

    def run(apply, carrier, xs):
        return apply(cell, carrier, xs)

    return Layer(init, initial_state, output_size, noise, run)


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


def enter(
    layer: Layer,
    params: Any,
    xs: Any,
    state: Any = None,
    *,
    lengths: Any = None,
    resets: Any = None,
    reset_to: Any = None,
    noise: Any = None,
) -> tuple[Carrier, Marks, Array]:
    """A run's arguments as its carrier, its marks and its inputs; or a clear error.

    The cells' features are checked where their inputs are known, in `route`.
    """
    xs = check_rank("xs", xs, "[T, ..., D]", 2)
    start = layer.initial_state(params, xs.shape[1:-1])
    state = start if state is None else _like("state", state, start)
    if reset_to is not None:
        reset_to = _like("reset_to", reset_to, start)
    if noise is not None:
        _check_noise(layer, params, xs, noise)
    return Carrier(params, state, reset_to, noise), make_marks(xs, lengths, resets), xs


def _like(name: str, value: Any, wanted: Any) -> Any:
    check_alike(name, value, wanted)
    return jax.tree.map(jnp.asarray, value)


def _check_noise(layer: Layer, params: Any, xs: Array, noise: Any) -> None:
    """Raise unless the noise is what this layer would draw for inputs like xs."""
    wanted = jax.eval_shape(lambda: layer.noise(jax.random.key(0), params, xs))
    if wanted is not None:
        check_alike("noise", noise, wanted)
    elif not isinstance(noise, CellNoise):
        raise TypeError(f"noise: expected CellNoise or None, got {noise!r:.60}")
