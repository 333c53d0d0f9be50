"""Truncated backpropagation through time over a sliding window.

Source: Williams & Peng (1990), Neural Computation 2, 490-501, BPTT(h; h'), with
h = k2 and h' = k1.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.checks import check_positive
from jaxrnn._core.door import as_layer
from jaxrnn._core.folded import one_step
from jaxrnn._core.numerics import joined, real_only
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.model import unroll
from jaxrnn.online.record import Online, make, where_rows


class Window(NamedTuple):
    """The state, and the last k2 steps, the newest last.

    before: states before each step, parts [k2, ..., H]. xs [k2, ..., D]. cotangents
    [k2, ..., H]: of the errors not yet sent back. count [...]: steps so far. anew
    [...]: whether the first of all was from the layer's initial state.
    """

    state: Any
    before: Any
    xs: Any
    cotangents: Any
    count: Array
    anew: Array


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
    Cost:    every row counts its own steps: once the resets or masks of a `learner`
             have moved the rows apart, one of them is due at nearly every step, and the
             backward pass, which is of all rows, runs then.
    Source:  Williams & Peng (1990), Neural Computation 2, 490-501, BPTT(k2; k1).
    """
    check_positive("k1", k1)
    check_positive("k2", k2)
    if k1 > k2:
        raise ValueError(f"k2: expected at least k1 = {k1}, got {k2}")
    layer = as_layer(cell)

    def start(params, state, batch, x, anew):
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
        count = jnp.zeros(batch, jnp.int32)
        return Window(state, before, xs, cotangents, count, jnp.full(batch, anew))

    def advance(params, memory, batch, x, cotangent):
        del batch
        after, h = one_step(cell, params, memory.state, x)

        def pushed(window, new):
            return jnp.concatenate([window[1:], new[None]])

        unsent = jax.tree.map(pushed, memory.cotangents, cotangent(h))
        memory = memory._replace(
            state=after,
            before=jax.tree.map(pushed, memory.before, memory.state),
            xs=jax.tree.map(pushed, memory.xs, x),
            count=memory.count + 1,
        )
        due = memory.count % k1 == 0
        zeros = jax.tree.map(jnp.zeros_like, unsent)
        sent = where_rows(1, due, unsent, zeros)
        grads = lax.cond(due.any(), send_back, nothing, params, memory, sent)
        return memory._replace(cotangents=where_rows(1, due, zeros, unsent)), grads

    def send_back(params, memory, sent):
        # Places before the first step are cut off by a reset there.
        batch = memory.count.shape
        first = jnp.maximum(k2 - memory.count, 0)
        steps = jnp.arange(k2, dtype=jnp.int32).reshape(-1, *[1] * len(batch))
        oldest = jax.tree.map(partial(_taken, first), memory.before)
        # A window that still holds its row's first step begins at the start itself.
        anew = memory.anew & (memory.count <= k2)

        def run(real):
            on = joined(real, params)
            start = where_rows(0, anew, layer.initial_state(on, batch), oldest)
            edges = {"resets": steps == first[None], "reset_to": start, "noise": None}
            return real_only(unroll(cell, on, memory.xs, start, **edges)[0])

        _, pull = jax.vjp(run, real_only(params))
        return pull(sent)[0]

    def nothing(params, memory, sent):
        del memory, sent
        return jax.tree.map(jnp.zeros_like, real_only(params))

    return make(cell, start, advance, rows=Window._make([0, 1, 1, 1, 0, 0]))


def _taken(first: Array, over_time: Array) -> Array:
    """Each row's entry at its own step `first` [...] of an array [k2, ..., H]."""
    at = first.reshape(1, *first.shape, *[1] * (over_time.ndim - first.ndim - 1))
    return jnp.take_along_axis(over_time, at, axis=0)[0]
