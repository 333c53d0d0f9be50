"""The forward pass: one transition, and a scan of it over time in chunks."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.cell import Cell, Params
from jaxrnn.checks import check_step
from jaxrnn.numerics import add_bias

# What a chunk's pre-activations may take. They are written once and read at once, so
# that they should stay in the last-level cache.
_CHUNK_BYTES = 4 * 2**20


def input_map(params: Params, x: Array) -> Array:
    """z = x W_x + b, for one step or many at once: [..., D] -> [..., G·H]."""
    return add_bias(x @ params.w_x, params.b)


def recurrent_map(params: Params, h: Array) -> Array:
    """r = h W_s (+ b_s): [..., H] -> [..., G·H]."""
    return add_bias(h @ params.w_s, params.b_s)


def step(cell: Cell, params: Params, state: Any, x: Array) -> Any:
    """The folded model: one transition.

    Math:    (56) s_t = gate(x_t W_x + b, h_{t-1} W_s + b_s, s_{t-1})
    Shapes:  state: parts [..., H]; x [..., D] -> state: parts [..., H].
    Raises:  ValueError or TypeError, at trace time, for a wrong feature size, dtype or
             state.
    """
    check_step(cell, params, state, x)
    r = recurrent_map(params, state[0])
    return cell.gate(params.own, input_map(params, x), r, state)


def scan_states(
    cell: Cell, params: Params, xs: Array, state: Any, chunk: int
) -> tuple[Any, Any]:
    """Unfold the cell: every state (parts [T, ..., H]) and the last one."""

    def one_step(state, z):
        state = cell.gate(params.own, z, recurrent_map(params, state[0]), state)
        return state, state

    def one_chunk(state, _, xs):
        return lax.scan(one_step, state, input_map(params, xs))

    final, states = scan_chunks(one_chunk, state, xs, chunk)
    return states, final


def scan_chunks(
    body: Callable[[Any, Any, Any], tuple[Any, Any]],
    carry: Any,
    steps: Any,
    chunk: int,
    *,
    starts: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Scan `body(carry, start, chunk_of_steps) -> (carry, ys)` over chunks of time.

    `steps` and ys have leading axis T, which the chunk need not divide: the last chunk
    is then shorter. `starts`, if given, has one entry a chunk on its leading axis.
    """
    length = jax.tree.leaves(steps)[0].shape[0]
    full, rest = divmod(length, chunk)

    def run_full(carry):
        folded = jax.tree.map(
            lambda a: a[: full * chunk].reshape(full, chunk, *a.shape[1:]), steps
        )
        inputs = (jax.tree.map(lambda a: a[:full], starts), folded)
        if full == 1:
            return body(carry, *jax.tree.map(lambda a: a[0], inputs))
        carry, ys = lax.scan(lambda c, i: body(c, *i), carry, inputs, reverse=reverse)
        return carry, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), ys)

    def run_rest(carry):
        tail = jax.tree.map(lambda a: a[full * chunk :], steps)
        return body(carry, jax.tree.map(lambda a: a[-1], starts), tail)

    # An empty sequence is one empty chunk, so that the outputs get their shapes.
    runs = [run_full] * (full > 0) + [run_rest] * (rest > 0 or full == 0)
    parts = []
    for run in reversed(runs) if reverse else runs:
        carry, ys = run(carry)
        parts.append(ys)
    if len(parts) == 1:
        return carry, parts[0]
    first, last = reversed(parts) if reverse else parts
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)


def chunk_or_default(params: Params, xs: Array, chunk_size: int | None) -> int:
    """Steps a chunk: as asked, or what fits `_CHUNK_BYTES`, even where T allows it."""
    length = max(1, xs.shape[0])
    if chunk_size is not None:
        return min(chunk_size, length)
    rows = math.prod(xs.shape[1:-1])
    step_bytes = max(1, rows * params.w_s.shape[1] * params.w_s.dtype.itemsize)
    fits = max(1, _CHUNK_BYTES // step_bytes)
    if length <= fits:
        return length
    return next((c for c in range(fits, fits // 2, -1) if length % c == 0), fits)


def vary_alike(*trees: Any) -> tuple[Any, ...]:
    """Inside `shard_map`, mark every array as varying over all axes that any varies on.

    A scan wants its carry to vary alike before and after a step; and the transpose of
    this cast is the sum of a replicated parameter's gradient over the devices.
    """
    axes = frozenset().union(*(_varying(a) for a in jax.tree.leaves(trees)))

    def vary(a):
        missing = tuple(axes - _varying(a))
        return lax.pcast(a, missing, to="varying") if missing else a

    return jax.tree.map(vary, trees)


def _varying(a: Array) -> frozenset[str]:
    return jax.typeof(a).manual_axis_type.varying
