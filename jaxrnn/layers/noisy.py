"""Dropout, DropConnect and zoneout."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_cell, check_features
from jaxrnn._core.door import as_layer
from jaxrnn.cell import Cell
from jaxrnn.layer import CellNoise, Layer
from jaxrnn.layers.noise import check_rate, draw_mask


class InputNoise(NamedTuple):
    """The inputs' mask [..., D], one for all steps, and the cell's noise."""

    mask: Array | None
    cell: CellNoise


@by_value
def noisy(
    cell: Cell,
    *,
    inputs: float = 0.0,
    state: float = 0.0,
    weights: float = 0.0,
    zoneout: float | tuple[float, ...] = 0.0,
) -> Layer:
    """A cell with dropout, DropConnect or zoneout.

    Args:
        cell: the cell, whose params and state the layer keeps.
        inputs: dropout rate of the inputs, one mask [..., D] for all steps.
        state: dropout rate of h before W_s, one mask [..., H] for all steps. Products
            inside the gate map are not masked.
        weights: dropout rate of W_s's elements, one mask for all steps and rows.
        zoneout: the probability that a unit keeps its previous value; one rate, or one
            for each part of the state, such as (h, c). Without noise, each unit keeps
            that share of its previous value.
    Returns: a `Layer`.
    Raises:  TypeError if `cell` is not a cell; ValueError for a rate outside [0, 1), or
             if the number of zoneout rates is not that of the state's parts.
    Source:  inputs, state: Gal & Ghahramani (2016), arXiv 1512.05287, §4.2. weights:
             Wan et al. (2013), in W_s: Merity, Keskar & Socher (2018), arXiv
             1708.02182, §2. zoneout: Krueger et al. (2017), arXiv 1606.01305, §3.2.
    """
    check_cell(cell)
    for name, rate in (("inputs", inputs), ("state", state), ("weights", weights)):
        check_rate(name, rate)
    if isinstance(zoneout, tuple) and not zoneout:
        raise ValueError("zoneout: expected one rate or one for each part, got ()")
    for rate in zoneout if isinstance(zoneout, tuple) else (zoneout,):
        check_rate("zoneout", rate)

    def kept(parts, draw):
        """`draw(rate, part)` for every part of the state; None without zoneout."""
        rates = zoneout if isinstance(zoneout, tuple) else (zoneout,) * len(parts)
        if len(rates) != len(parts):
            raise ValueError(
                f"zoneout: expected {len(parts)} rates, one for each part of "
                f"{type(parts).__name__}, got {len(rates)}"
            )
        return type(parts)(*map(draw, rates, parts)) if any(rates) else None

    def noise(key, params, xs):
        check_features("xs", params, xs)
        k_x, k_h, k_w, k_z = jax.random.split(key, 4)
        start = cell.initial_state(params, xs.shape[1:-1])

        keys = iter(jax.random.split(k_z, len(start)))

        def draw(rate, part):
            over_time = (xs.shape[0], *part.shape)
            return jax.random.bernoulli(next(keys), rate, over_time).astype(part.dtype)

        return InputNoise(
            draw_mask(k_x, inputs, xs.shape[1:], xs),
            CellNoise(
                draw_mask(k_w, weights, params.w_s.shape, params.w_s),
                draw_mask(k_h, state, start[0].shape, start[0]),
                kept(start, draw),
            ),
        )

    def run(apply, carrier, xs):
        noise = carrier.noise
        if noise is None:
            width = (len(xs), *[1] * (xs.ndim - 1))
            shares = kept(
                carrier.state, lambda rate, _: jnp.full(width, rate, xs.dtype)
            )
            noise = InputNoise(None, CellNoise(hold=shares))
        xs = xs if noise.mask is None else xs * noise.mask[None]
        return apply(cell, carrier._replace(noise=noise.cell), xs)

    return as_layer(cell)._replace(noise=noise, run=run)
