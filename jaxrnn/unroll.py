"""The unfolded model: a cell run over time, its gradient by hand or by JAX."""

from functools import partial
from typing import Any, Literal

import jax
from jax import Array

from jaxrnn.bptt import backward
from jaxrnn.cell import Cell, Params
from jaxrnn.checks import check_flag, check_inputs
from jaxrnn.chunks import Store, make_plan
from jaxrnn.forward import unfold, vary_alike
from jaxrnn.marks import live_only, make_marks, turn

Gradient = Literal["manual", "autodiff"]


def unroll(
    cell: Cell,
    params: Params,
    xs: Array,
    state: Any = None,
    *,
    gradient: Gradient = "manual",
    chunk_size: int | None = None,
    store: Store | None = None,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    return_states: bool = False,
) -> tuple[Any, Any]:
    """Run the cell over a sequence, compiled; the unfolded model.

    Math:    s_t = gate(x_t W_x + b, h_{t-1} W_s + b_s, s_{t-1}) for t = 1..T     (56)
    Shapes:  xs [T, ..., D], state parts [..., H] -> hs [T, ..., H], final state parts
             [..., H]. Any number of batch axes, none included; all in one dtype.
    Args:
        state: the state before the first step; zeros by default. The final state can
            be given back as the next call's `state`: pieces equal the whole.
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
            inf, reaches an output or a gradient.
        resets: booleans [T, ...]. Where true, the row's state is its initial one
            before that step, and no gradient crosses.
        reverse: run from the last step to the first, each row inside its own length;
            outputs stay beside their inputs.
        return_states: return every part of every state in place of `hs`.
    Raises:  ValueError or TypeError, at trace time, for a wrong rank, feature size,
             dtype, state or option.
    Edge:    T = 0 gives empty outputs, the initial state and zero gradients.
    """
    xs, state = check_inputs(cell, params, xs, state)
    plan = make_plan(params, xs, chunk_size, store)
    check_flag("reverse", reverse)
    if gradient not in ("manual", "autodiff"):
        raise ValueError(f"gradient: expected 'manual' or 'autodiff', got {gradient!r}")
    run = _manual if gradient == "manual" else _autodiff
    inputs = vary_alike(params, xs, make_marks(xs, lengths, resets), state)
    return _compiled(run, cell, plan, return_states, reverse, *inputs)


def _autodiff(cell, plan, return_states, params, xs, marks, state):
    states, final, _ = unfold(cell, plan, params, xs, marks, state)
    return states if return_states else states[0], final


_manual = jax.custom_vjp(_autodiff, nondiff_argnums=(0, 1, 2))


def _manual_forward(cell, plan, return_states, params, xs, marks, state):
    states, final, trace = unfold(cell, plan, params, xs, marks, state)
    out = states if return_states else states[0]
    return (out, final), (params, xs, marks, trace)


def _manual_backward(cell, plan, return_states, residuals, cotangents):
    params, xs, marks, trace = residuals
    direct, final = cotangents
    if not return_states:
        direct = type(final)(direct, *[None] * (len(final) - 1))
    d = backward(cell, plan, params, xs, marks, trace, direct, final, keep=False)
    return d.params, d.xs, None, d.state


_manual.defvjp(_manual_forward, _manual_backward)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _compiled(run, cell, plan, return_states, reverse, params, xs, marks, state):
    if reverse:
        xs, marks = turn((xs, marks))
    xs = live_only(marks, xs)
    hs, final = run(cell, plan, return_states, params, xs, marks, state)
    hs = live_only(marks, hs)
    return turn(hs) if reverse else hs, final
