"""Dropout, DropConnect, zoneout and additive noise."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_cell
from jaxrnn._core.door import as_layer
from jaxrnn._core.inputs import check_features, split
from jaxrnn.cell import Cell
from jaxrnn.layer import CellNoise, Layer
from jaxrnn.layers.noise import check_rate, draw_mask


class InputNoise(NamedTuple):
    """The inputs' mask [..., D], one for all steps, and the cell's noise."""

    mask: Array | None
    cell: CellNoise


def _check_rates(name: str, rates: Any, check: Callable[[str, Any], None]) -> None:
    """Raise unless it is a rate, or a tuple of them, that passes the check."""
    if isinstance(rates, tuple) and not rates:
        raise ValueError(f"{name}: expected one rate or one for each part, got ()")
    for rate in rates if isinstance(rates, tuple) else (rates,):
        check(name, rate)


def _check_deviation(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name}: expected a number of 0 or more, got {value!r}")


def _by_part(name: str, rates: Any, state: Any, draw: Callable[..., Array]) -> Any:
    """`draw(rate, part, i)` for every part of the state; None if all rates are 0."""
    rates = rates if isinstance(rates, tuple) else (rates,) * len(state)
    if len(rates) != len(state):
        raise ValueError(
            f"{name}: expected {len(state)} rates, one for each part of "
            f"{type(state).__name__}, got {len(rates)}"
        )
    if not any(rates):
        return None
    return type(state)(*map(draw, rates, state, range(len(state))))


def _normal(key: Array, deviation: float, shape: tuple[int, ...]) -> Array:
    return deviation * jax.random.normal(key, shape)


@by_value
def noisy(
    cell: Cell,
    *,
    inputs: float = 0.0,
    state: float = 0.0,
    weights: float = 0.0,
    zoneout: float | tuple[float, ...] = 0.0,
    additive: float | tuple[float, ...] = 0.0,
) -> Layer:
    """A cell with dropout, DropConnect, zoneout or additive noise.

    Args:
        cell: the cell, whose params and state the layer keeps.
        inputs: dropout rate of the inputs, one mask [..., D] for all steps.
        state: dropout rate of h before W_s, one mask [..., H] for all steps. Products
            inside the gate map are not masked.
        weights: dropout rate of W_s's elements, one mask for all steps and rows.
        zoneout: the probability that a unit keeps its previous value; one rate, or one
            for each part of the state, such as (h, c). Without noise, each unit keeps
            that share of its previous value.
        additive: the standard deviation of Gaussian noise that is added to the state
            after every step; one, or one for each part of the state.
    Returns: a `Layer`.
    Raises:  TypeError if `cell` is not a cell; ValueError for a rate outside [0, 1), a
             negative deviation, or if the number of rates or deviations is not that of
             the state's parts.
    Source:  inputs, state: Gal & Ghahramani (2016), arXiv 1512.05287, §4.2. weights:
             Wan et al. (2013), in W_s: Merity, Keskar & Socher (2018), arXiv
             1708.02182, §2. zoneout: Krueger et al. (2017), arXiv 1606.01305, §3.2.
             additive: as the recurrent noise of Song, Yang & Wang (2016), PLoS Comput.
             Biol. 12, e1004792.
    """
    check_cell(cell)
    for name, rate in (("inputs", inputs), ("state", state), ("weights", weights)):
        check_rate(name, rate)
    _check_rates("zoneout", zoneout, check_rate)
    _check_rates("additive", additive, _check_deviation)

    def noise(key, params, xs):
        check_features("xs", cell, params, xs)
        x, _ = split(cell, xs)
        k_x, k_h, k_w, k_z, k_a = jax.random.split(key, 5)
        start = cell.initial_state(params, x.shape[1:-1])
        h = start[cell.recurrent]

        def every_step(name, rates, draw, key):
            keys = jax.random.split(key, len(start))

            def of_part(rate, part, i):
                made = draw(keys[i], rate, (x.shape[0], *part.shape))
                return made.astype(part.dtype)

            return _by_part(name, rates, start, of_part)

        return InputNoise(
            draw_mask(k_x, inputs, x.shape[1:], x),
            CellNoise(
                draw_mask(k_w, weights, params.w_s.shape, params.w_s),
                draw_mask(k_h, state, h.shape, h),
                every_step("zoneout", zoneout, jax.random.bernoulli, k_z),
                every_step("additive", additive, _normal, k_a),
            ),
        )

    def run(apply, carrier, xs):
        x, extra = split(cell, xs)
        noise = carrier.noise
        if noise is None:  # zoneout's mean, and no other noise

            def share(rate, part, i):
                return jnp.full((len(x), *[1] * (x.ndim - 1)), rate, x.dtype)

            held = _by_part("zoneout", zoneout, carrier.state, share)
            noise = InputNoise(None, CellNoise(hold=held))
        x = x if noise.mask is None else x * noise.mask[None]
        on = carrier._replace(noise=noise.cell)
        return apply(cell, on, (x, *extra) if extra else x)

    return as_layer(cell)._replace(noise=noise, run=run)
