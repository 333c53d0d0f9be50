"""Fixed and slow points of a network with a constant input."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrnn._core.checks import as_arrays, check_number, check_positive
from jaxrnn._core.door import as_layer, check_forward, read_state
from jaxrnn._core.folded import one_step, pack, pull, units_of, unpack
from jaxrnn._core.inputs import check_features, read_inputs
from jaxrnn._core.numerics import is_real
from jaxrnn._core.trees import describe
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer


class FixedPoints(NamedTuple):
    """The points found from R starts, the slowest first.

    states: parts [R, H].
    speeds [R]: q = ½ ‖F(s) - s‖², 0 at a fixed point.
    eigenvalues [R, N]: of the step's Jacobian there, complex, the largest first; the
        point is stable if all are below 1 in size.
    """

    states: Any
    speeds: Array
    eigenvalues: Array


def fixed_points(
    cell: Cell | Layer, params: Any, x: Array, states: Any, *, steps: int = 100
) -> FixedPoints:
    """Search for fixed and slow points of s → F(s) = gate(x W_x + b, s W_s, s).

    q is minimised from every start; its minima above 0 are the slow points.

    Math:    q(s) = ½ ‖F(s) - s‖², by the Levenberg-Marquardt method: with A = J - 1,
             s ← s - (AᵀA + μ)⁻¹ Aᵀ (F(s) - s), accepted where it lowers q
    Shapes:  x [D], the constant input; states: the starts, parts [R, H], best taken
             from runs of the network.
    Args:
        cell, params: as in `unroll`.
        steps: of the minimisation, the same for every start.
    Returns: `FixedPoints`, one per start; many may coincide, see `distinct`.
    Raises:  TypeError if `cell` is neither a cell nor a layer; ValueError or TypeError
             for inputs that do not fit the cell, steps that is not a positive integer,
             a layer with a backward direction, or a state that holds integers.
    Source:  Sussillo & Barak (2013), Neural Computation 25, 626-649; the descent:
             Marquardt (1963), J. SIAM 11, 431-441.
    """
    check_positive("steps", steps)
    layer = as_layer(cell)
    check_forward(layer)
    states, batch = read_state("states", layer, params, states)
    if len(batch) != 1:
        raise ValueError(
            "states: expected parts [R, H], one row for each start, got "
            f"{list(jax.tree.leaves(states)[0].shape)}"
        )
    for part in jax.tree.leaves(states):
        if not is_real(part):
            raise TypeError(
                f"states: expected floating parts, got {part.dtype}: what is counted "
                "does not stand still"
            )
    x, rows = read_inputs(layer.x_ndim, x, name="x", over_time=False)
    if rows:
        raise ValueError(f"x: expected one row's input, got {list(rows)} of them")
    if isinstance(cell, Cell):
        check_features("x", cell, params, x)
    return _fixed_points(cell, steps, params, x, states)


@partial(jax.jit, static_argnums=(0, 1))
def _fixed_points(cell, steps, params, x, starts):
    def velocity(s):
        return pack(one_step(cell, params, unpack(s, starts, 1), x)[0]) - s

    def speed(s):
        v = velocity(s)
        return 0.5 * (v @ v)

    def jacobian(s):
        at = unpack(s, starts, 1)
        return jax.vmap(partial(pull, cell, params, x, at))(units_of(at))

    def descend(carry, _):
        s, damping = carry
        v, slope = velocity(s), jacobian(s) - jnp.eye(len(s), dtype=s.dtype)
        normal = slope.T @ slope + damping * jnp.eye(len(s), dtype=s.dtype)
        moved = s - jnp.linalg.solve(normal, slope.T @ v)
        better = speed(moved) < speed(s)
        # after an accepted step, damp less; the bounds keep μ finite and above 0
        damping = jnp.clip(damping * jnp.where(better, 0.3, 2.0), 1e-12, 1e6)
        return (jnp.where(better, moved, s), damping), None

    def from_start(start):
        begin = start, jnp.ones((), start.dtype)
        (s, _), _ = lax.scan(descend, begin, length=steps)
        values = jnp.linalg.eigvals(jacobian(s))
        return s, speed(s), values[jnp.argsort(-jnp.abs(values))]

    found = jax.vmap(from_start)(pack(starts, 1))
    order = jnp.argsort(found[1])
    s, speeds, eigenvalues = jax.tree.map(lambda a: a[order], found)
    return FixedPoints(unpack(s, starts, 1), speeds, eigenvalues)


def distinct(
    points: FixedPoints, *, speed: float = 1e-6, apart: float = 1e-3
) -> FixedPoints:
    """Keep the slow points, and of each group of close ones only the slowest.

    It cannot run inside `jit`, since the number of points left depends on values.

    Args:
        points: from `fixed_points`, with states [R, H].
        speed: the largest q to keep.
        apart: the smallest distance ‖s - s'‖ between two points that are kept.
    Returns: the `FixedPoints` that are left.
    Raises:  TypeError if points is not a `FixedPoints`; ValueError or TypeError unless
             speed and apart are positive numbers.
    """
    if not isinstance(points, FixedPoints):
        raise TypeError(
            "points: expected FixedPoints, as fixed_points gives, got "
            f"{describe(points)}"
        )
    points = as_arrays("points", points)
    check_number("speed", speed, low=0)
    check_number("apart", apart, low=0)
    states = np.asarray(pack(points.states, 1))
    kept: list[int] = []
    for i, (s, q) in enumerate(zip(states, np.asarray(points.speeds), strict=True)):
        near = (np.linalg.norm(s - states[k]) < apart for k in kept)
        if q < speed and not any(near):
            kept.append(i)
    return jax.tree.map(lambda a: a[np.array(kept, int)], points)
