"""Lyapunov exponents: how fast nearby states separate, and gradients grow."""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.checks import check_choice, check_within
from jaxrnn._core.folded import pull, push, size_of, units_of
from jaxrnn._core.numerics import over_batch
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.model import trajectory


def lyapunov_spectrum(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any = None,
    *,
    count: int | None = None,
    warmup: int = 0,
    order: Literal["tangent", "adjoint"] = "tangent",
) -> Array:
    """The Lyapunov exponents of a driven network, in nats per step.

    Math:    J_t Q_{t-1} = Q_t R_t (QR);  χ_i = mean_t log |R_t[i, i]|
    Shapes:  xs [T, ..., D], state parts [..., H] -> [..., count], the largest first.
    Args:
        cell, params: as in `unroll`.
        count: the number of exponents, from the largest; all N by default.
        warmup: steps at the start of the sweep, in which Q settles, that are left out
            of the mean.
        order: "tangent" runs forward in time with J (forward mode); "adjoint" runs
            backward with Jᵀ by hand, as gradients do. Both converge to the same
            exponents as T grows.
    Returns: the exponents χ. Gradients grow by exp(χ_1) per step on average: they
             vanish if χ_1 < 0 and explode if χ_1 > 0. -inf for a direction that is
             lost.
    Raises:  ValueError if there is no step, for a count outside 1..N, a warmup outside
             0..T-1, an unknown order or a layer with a backward direction; as `unroll`
             does.
    Source:  Benettin et al. (1980), Meccanica 15, 9-20; for recurrent networks: Vogt et
             al. (2022), Front. Appl. Math. Stat. 8, 818799; Engelken, Wolf & Abbott
             (2023), Phys. Rev. Research 5, 043044.
    """
    xs, before, axes = trajectory(cell, params, xs, state)
    if axes[0] == 0:
        raise ValueError("xs: expected at least one step, got none")
    size = size_of(before, len(axes))
    count = size if count is None else count
    check_within("count", count, 1, size)
    check_within("warmup", warmup, 0, axes[0] - 1)
    check_choice("order", order, ("tangent", "adjoint"))
    batch_axes = len(axes) - 1
    return _spectrum(cell, count, warmup, order, batch_axes, params, xs, before)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _spectrum(cell, count, warmup, order, batch_axes, params, xs, before):
    move = push if order == "tangent" else pull

    def of_row(xs, before):
        def one_step(q, step):
            moved = jax.vmap(partial(move, cell, params, *step), 1, 1)(q)
            q, r = jnp.linalg.qr(moved)
            return q, jnp.log(jnp.abs(jnp.diagonal(r)))

        # any start that is not aligned with the network's own directions
        units = units_of(before, 1)
        frame = jax.nn.initializers.orthogonal()
        start = frame(jax.random.key(0), (len(units), count), jnp.float32)
        start = start.astype(units.dtype)
        _, logs = lax.scan(one_step, start, (xs, before), reverse=order == "adjoint")
        logs = logs[: len(logs) - warmup] if order == "adjoint" else logs[warmup:]
        return jnp.sort(logs.mean(0))[::-1]

    return over_batch(of_row, batch_axes, in_axes=1)(xs, before)
