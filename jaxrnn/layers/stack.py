"""Layers stacked on each other."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_choice, check_positive
from jaxrnn._core.door import as_layer, check_parts
from jaxrnn._core.inputs import axes_of, check_vectors, read_inputs
from jaxrnn._core.numerics import real_only
from jaxrnn._core.sizes import check_key
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.layers.noise import check_rate, draw_mask

Skip = Literal["residual", "input"]


class StackNoise(NamedTuple):
    """The noise of each layer of a stack, and the masks [T, ..., H] between them."""

    layers: tuple
    between: tuple


def _sizes(hidden_size: Any, count: int) -> Sequence[Any]:
    """The hidden size of each layer."""
    if not isinstance(hidden_size, tuple | list):
        return [hidden_size] * count
    if len(hidden_size) != count:
        raise ValueError(
            f"hidden_size: expected one size or {count}, one for each layer, "
            f"got {hidden_size}"
        )
    return hidden_size


def _check_read(
    i: int, part: Layer, below: Any, axes: tuple[int, ...], *, plain: bool
) -> None:
    """Raise unless layer i can read the outputs of the one below, and, where they are
    added to, put beside others or dropped, unless they are one array."""
    if plain or part.x_ndim is None:
        why = f"two directions merged, for layers[{i}] to read"
        check_vectors(f"layers[{i - 1}]", below, axes, why)
        return
    _, found = read_inputs(part.x_ndim, below, name=f"outputs of layers[{i - 1}]")
    if found != axes:
        raise ValueError(
            f"layers[{i}]: expected outputs below that it reads at the steps and rows "
            f"{list(axes)}, got {list(found)}; see its x_ndim={part.x_ndim}"
        )


def _check_residual(i: int, below: int, width: int) -> None:
    if below != width:
        raise ValueError(
            'skip: "residual" adds the inputs of each layer to its outputs: expected '
            f"as many features, got layers[{i}] that reads {below} and gives {width}"
        )


@by_value
def stack(
    *layers: Cell | Layer, skip: Skip | None = None, dropout: float = 0.0
) -> Layer:
    """Stack layers, each reading the outputs of the one below.

    Its params and its state are tuples of the layers'. `init`'s `hidden_size` is one
    size or one per layer: `stack(lstm(), gru()).init(key, 3, (32, 16))`.

    Args:
        layers: cells or layers; the first reads xs [T, ..., D].
        skip: "residual" adds the inputs of every layer but the first to its outputs;
            "input" feeds xs to every layer beside the outputs below; None does neither.
        dropout: the rate at which outputs between layers are dropped in a run with
            noise, with a new mask at every step.
    Returns: a `Layer`.
    Raises:  TypeError or ValueError if there are no layers, one is not a layer, skip is
             unknown or the rate outside [0, 1); at trace time for layers of different
             sizes with "residual", or outputs that the next layer cannot read.
    Source:  "input": Graves (2013), arXiv 1308.0850, §2; dropout: Zaremba, Sutskever &
             Vinyals (2014), arXiv 1409.2329, equation 4ff.
    """
    if not layers:
        raise ValueError("layers: expected one or more, got none")
    parts = [as_layer(layer, f"layers[{i}]") for i, layer in enumerate(layers)]
    check_choice("skip", skip, (*get_args(Skip), None))
    check_rate("dropout", dropout)
    count = len(parts)
    x_ndim = parts[0].x_ndim
    if skip == "input" and x_ndim not in (None, 1):
        raise ValueError(
            'skip: "input" puts xs beside the outputs below, and so expects layers[0] '
            f"to read one array [T, ..., D]; it has x_ndim={x_ndim}"
        )

    def init(key, input_size, hidden_size, **options):
        check_key(key)
        check_positive("input_size", input_size)
        params, width = [], input_size
        keys, sizes = jax.random.split(key, count), _sizes(hidden_size, count)
        for part, k, size in zip(parts, keys, sizes, strict=True):
            below = width + input_size if params and skip == "input" else width
            params.append(part.init(k, below, size, **options))
            width = part.output_size(params[-1])
            if len(params) > 1 and skip == "residual":
                _check_residual(len(params) - 1, below, width)
        return tuple(params)

    def initial_state(params, batch_shape=()):
        check_parts("params", params, tuple, count)
        pairs = zip(parts, params, strict=True)
        return tuple(part.initial_state(p, batch_shape) for part, p in pairs)

    def noise(key, params, xs):
        inside, between, below = [], [], xs
        axes = axes_of(x_ndim, xs)
        for i, part in enumerate(parts):
            k_inside, k_between = jax.random.split(jax.random.fold_in(key, i))
            inside.append(part.noise(k_inside, params[i], below))
            width = part.output_size(params[i])
            shape = (*axes, width)
            state = jax.eval_shape(part.initial_state, params[i])
            like = jax.tree.leaves(real_only((state, params[i])))[0]
            if i + 1 < count:
                between.append(draw_mask(k_between, dropout, shape, like))
                reads = width + (xs.shape[-1] if skip == "input" else 0)
                below = jax.ShapeDtypeStruct((*axes, reads), like.dtype)
        return StackNoise(tuple(inside), tuple(between))

    def run(apply, carrier, xs):
        nothing = StackNoise((None,) * count, (None,) * (count - 1))
        inside, between = carrier.noise or nothing
        hs, states, finals = xs, [], []
        axes = axes_of(x_ndim, xs)
        for i, part in enumerate(parts):
            below = hs
            if i > 0:
                _check_read(i, part, hs, axes, plain=bool(skip or dropout))
            if i > 0 and between[i - 1] is not None:
                below = hs * between[i - 1]
            if i > 0 and skip == "input":
                below = jnp.concatenate([xs, below], axis=-1)
            on = carrier.part(itemgetter(i), itemgetter(i), inside[i])
            hs, part_states, final = apply(part, on, below)
            if i > 0 and skip == "residual":
                check_vectors(f"layers[{i}]", hs, axes, "to which its inputs are added")
                _check_residual(i, below.shape[-1], hs.shape[-1])
                hs = hs + below
            states.append(part_states)
            finals.append(final)
        return hs, tuple(states), tuple(finals)

    def output_size(params):
        return parts[-1].output_size(params[-1])

    runs_backward = any(part.runs_backward for part in parts)
    return Layer(init, initial_state, output_size, noise, run, runs_backward, x_ndim)
