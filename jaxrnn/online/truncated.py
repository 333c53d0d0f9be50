"""Truncated backpropagation through time over a sliding window.

Source: Williams & Peng (1990), Neural Computation 2, 490-501, BPTT(h; h'), with
h = k2 and h' = k1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.checks import check_positive
from jaxrnn._core.door import as_layer
from jaxrnn._core.folded import one_step
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.numerics import real_only
from jaxrnn.backprop import bptt
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.online.record import Online, learner


class Window(NamedTuple):
    """The state, and the last k2 steps, the newest last.

    before: states before each step, parts [k2, ..., H]. xs [k2, ..., D]. cotangents
    [k2, ..., H]: of the errors not yet sent back. count: steps so far.
    """

    state: Any
    before: Any
    xs: Any
    cotangents: Any
    count: Array


def truncated(cell: Cell | Layer, k1: int, k2: int) -> Online:
    """Truncated BPTT: every k1 steps, the last k1 errors go back through k2 steps.

    The steps between give zeros, and the errors of a sequence's last T mod k1 steps are
    not sent back. With k1 = 1 and k2 ≥ T it is BPTT. Past states are not recomputed
    when a learner changes the parameters.

    Args:
        cell: any cell, or any layer that runs forward in time.
        k1: steps between two backward passes.
        k2: steps of one backward pass.
    Returns: an `Online`.
    Raises:  ValueError unless 1 ≤ k1 ≤ k2, or for a layer with a backward direction;
             TypeError if `cell` is neither a cell nor a layer.
    Source:  Williams & Peng (1990), Neural Computation 2, 490-501, BPTT(k2; k1).
    """
    check_positive("k1", k1)
    check_positive("k2", k2)
    if k1 > k2:
        raise ValueError(f"k2: expected at least k1 = {k1}, got {k2}")
    layer = as_layer(cell)

    def start(params, state, batch, x):
        if x is None and layer.x_ndim is not None:
            raise ValueError(
                "x: expected an input like those to come, since a transition does not "
                "say what its window will hold: init(params, state, x)"
            )
        if x is None:  # the first leaf is a W_x [D, ·]
            w_x = jax.tree.leaves(params)[0]
            x = jnp.zeros((*batch, w_x.shape[0]), w_x.dtype)

        def window(a):
            return jnp.broadcast_to(a, (k2, *a.shape))

        h = jax.eval_shape(lambda: one_step(cell, params, state, x)[1])
        waiting = jax.tree.map(jnp.zeros_like, real_only(h))
        before, xs, cotangents = jax.tree.map(window, (state, x, waiting))
        return Window(state, before, xs, cotangents, jnp.zeros((), jnp.int32))

    def advance(params, memory, batch, x, cotangent):
        del batch
        after, h = one_step(cell, params, memory.state, x)

        def pushed(window, new):
            return jnp.concatenate([window[1:], new[None]])

        memory = Window(
            after,
            jax.tree.map(pushed, memory.before, memory.state),
            jax.tree.map(pushed, memory.xs, x),
            jax.tree.map(pushed, memory.cotangents, cotangent(h)),
            memory.count + 1,
        )
        due = memory.count % k1 == 0
        grads = lax.cond(due, send_back, nothing, params, memory)
        waiting = jax.tree.map(
            lambda a: jnp.where(due, jnp.zeros_like(a), a), memory.cotangents
        )
        return memory._replace(cotangents=waiting), grads

    def send_back(params, memory):
        # Places before the first step are cut off by a reset there.
        first = jnp.maximum(k2 - memory.count, 0)
        axes = axes_of(layer.x_ndim, memory.xs)
        steps = jnp.arange(k2, dtype=jnp.int32) == first
        resets = steps.reshape(-1, *[1] * (len(axes) - 1))
        resets = jnp.broadcast_to(resets, axes)
        before = jax.tree.map(lambda a: a[first], memory.before)
        window = params, memory.xs, before, memory.cotangents
        edges = {"resets": resets, "reset_to": before, "noise": None}
        return bptt(cell, *window, **edges).params

    def nothing(params, memory):
        del memory
        return jax.tree.map(jnp.zeros_like, real_only(params))

    return learner(cell, start, advance)
