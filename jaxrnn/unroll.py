"""The unfolded model: a cell or layer run over time, its gradient by hand or JAX's."""

from functools import partial
from typing import Any, Literal

import jax
from jax import Array

from jaxrnn.cell import Cell, Layer
from jaxrnn.checks import check_flag, check_plan
from jaxrnn.chunks import Store
from jaxrnn.marks import make_marks
from jaxrnn.run import Options, Start, check_run, run

Gradient = Literal["manual", "autodiff"]


def unroll(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any = None,
    *,
    gradient: Gradient = "manual",
    chunk_size: int | None = None,
    store: Store | None = None,
    lengths: Any = None,
    resets: Any = None,
    reset_to: Any = None,
    reverse: bool = False,
    return_states: bool = False,
    noise: Any = None,
) -> tuple[Any, Any]:
    """Run a cell or a layer over a sequence, compiled; the unfolded model.

    Math:    s_t = gate(x_t W_x + b, h_{t-1} W_s + b_s, s_{t-1}) for t = 1..T     (56)
    Shapes:  xs [T, ..., D], state parts [..., H] -> hs [T, ..., H], final state parts
             [..., H]. Any number of batch axes, none included; all in one dtype.
    Args:
        cell: a `Cell`, or a layer from `jaxrnn.layers`, whose params and state nest.
        state: the state before the first step; zeros by default, or what the layer
            has learned. The final state can be given back as the next call's
            `state`: pieces equal the whole.
        gradient: "manual", the hand-derived BPTT of `jaxrnn.bptt` (reverse mode; it
            can be differentiated again, in both modes), or "autodiff", JAX's own, for
            comparison and forward mode. Both give the same outputs to the bit.
        chunk_size: steps that the backward pass linearises at once; by default about
            1000 rows of steps times batch. It need not divide T, and changes no
            result but rounding.
        store: what every step leaves for the backward pass: "activations", all that
            it needs; "states", from which a chunk's activations are computed again by
            two large products; "borders", the state before each chunk, from which the
            chunk is run again: with `chunk_size` near √T, what is stored grows with √T
            instead of T. By default the first for wide layers (D + H of 192 or more),
            the second for narrow ones.
        lengths: integers [...], each row's own length in 0..T. Its outputs past it are
            zero, its final state is the one at it, and nothing past it, be it NaN or
            inf, reaches an output or a gradient. A traced one is clamped to 0..T.
        resets: booleans [T, ...]. Where true, the row's state is its initial one
            before that step, and no gradient crosses.
        reset_to: the state that a reset puts in place; `state` by default. To run
            pieces of one long sequence, give it the state before the first piece.
        reverse: run from the last step to the first, each row inside its own length;
            outputs stay beside their inputs.
        return_states: return every part of every state in place of `hs`; of a layer,
            those of all its cells, nested as its state is.
        noise: what chance does in this run, from `layers.draw_noise`; None to
            evaluate, without any.
    Raises:  ValueError or TypeError, at trace time, for a wrong rank, feature size,
             dtype, state or option.
    Edge:    T = 0 gives empty outputs, the initial state and zero gradients.
    """
    xs, state, restart = check_run(cell, params, xs, state, reset_to, noise)
    check_plan(chunk_size, store)
    check_flag("reverse", reverse)
    check_flag("return_states", return_states)
    if gradient not in ("manual", "autodiff"):
        raise ValueError(f"gradient: expected 'manual' or 'autodiff', got {gradient!r}")
    options = Options(gradient, chunk_size, store, reverse, return_states)
    marks = make_marks(xs, lengths, resets)
    return _compiled(cell, options, params, xs, marks, state, restart, noise)


@partial(jax.jit, static_argnums=(0, 1))
def _compiled(layer, options, params, xs, marks, state, restart, noise):
    starts = jax.tree.map(lambda s, r: Start(s, r, None), state, restart)
    return run(layer, options, params, xs, marks, starts, noise)
