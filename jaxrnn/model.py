"""Running a cell or a layer: one step, or a whole sequence; equation 56."""

from functools import partial
from typing import Any, Literal, TypedDict, Unpack, get_args, overload

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxrnn._core.checks import (
    as_array,
    check_choice,
    check_flag,
    check_rank,
    check_shape,
    read_alike,
)
from jaxrnn._core.chunks import Plan, Store, check_plan
from jaxrnn._core.door import UNSAID, as_layer, check_forward, enter
from jaxrnn._core.folded import one_step
from jaxrnn._core.inputs import axes_of, check_features, read_inputs
from jaxrnn._core.marks import Marks, as_booleans, live_only, make_marks, states_before
from jaxrnn._core.route import route
from jaxrnn._core.runners import by_hand, by_jax
from jaxrnn.cell import Cell, Its
from jaxrnn.layer import Layer, LayerLike, Transition

Gradient = Literal["manual", "autodiff"]


class Options(TypedDict, total=False):
    """The options of `unroll` that a network's functions take as well."""

    chunk_size: int | None
    store: Store | None
    lengths: Any
    mask: Any
    resets: Any
    reset_to: Any
    reverse: bool
    noise: Any


_RUNNERS = {"manual": by_hand, "autodiff": by_jax}


def step(
    cell: LayerLike,
    params: Any,
    state: Any,
    x: Array,
    *,
    reset: Any = None,
    reset_to: Any = None,
) -> tuple[Any, Array]:
    """Run a cell or a layer for one step.

    `partial(step, cell, params)` is the body of a `lax.scan`.

    Math:    (56) s_t = gate(x_t W_x + b, h_{t-1} W_s + b_s, s_{t-1})
    Shapes:  state: parts [..., H]; x [..., D] -> state: parts [..., H], and the output,
             h [..., H] for a cell.
    Args:
        cell: a `Cell`, or a layer from `jaxrnn.layers` that runs forward in time. A
            noisy layer is evaluated, without noise.
        params: the cell's or the layer's.
        reset: booleans [...]. Where true, the row starts anew: its state before the
            step is the layer's initial state, and no gradient crosses.
        reset_to: the state that a reset starts from instead.
    Use:     under `jax.jit`, as in `jax.jit(partial(step, cell))`: the checks are then
             made once, when it is traced.
    Returns: (state, output).
    Raises:  ValueError or TypeError, at trace time, for a wrong feature size, dtype or
             state, or a layer that runs backward in time, which has no single step.
    Source:  the seed's equation 56.
    """
    layer = as_layer(cell)
    x, batch = read_inputs(layer.x_ndim, x, name="x", over_time=False)
    start = layer.initial_state(params, batch)
    state = read_alike("state", state, start)
    if isinstance(cell, Cell):
        check_features("x", cell, params, x)
    marks = Marks()
    if reset is not None:
        marks = Marks(reset=as_booleans("reset", reset, batch))
    restart = start if reset_to is None else read_alike("reset_to", reset_to, start)
    return one_step(layer, params, state, x, marks, restart, gradient="autodiff")


@overload
def unroll(
    cell: Cell[Its],
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    gradient: Gradient = "manual",
    return_states: Literal[False] = False,
    **options: Unpack[Options],
) -> tuple[Array, Its]: ...


@overload
def unroll(
    cell: Cell[Its],
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    gradient: Gradient = "manual",
    return_states: Literal[True],
    **options: Unpack[Options],
) -> tuple[Its, Its]: ...


@overload
def unroll(
    cell: Layer | Transition,
    params: Any,
    xs: Any,
    state: Any = None,
    *,
    gradient: Gradient = "manual",
    return_states: bool = False,
    **options: Unpack[Options],
) -> tuple[Any, Any]: ...


def unroll(
    cell: LayerLike,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    gradient: Gradient = "manual",
    chunk_size: int | None = None,
    store: Store | None = None,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    reset_to: Any = None,
    reverse: bool = False,
    return_states: bool = False,
    noise: Any = UNSAID,
) -> tuple[Any, Any]:
    """Run a cell or a layer over a sequence, compiled.

    Math:    s_t = gate(x_t W_x + b, h_{t-1} W_s + b_s, s_{t-1}) for t = 1..T     (56)
    Shapes:  xs [T, ..., D], state parts [..., H] -> hs [T, ..., H], final state parts
             [..., H]. Any number of batch axes, even none; all in one dtype.
    Args:
        cell: a `Cell`, or a layer from `jaxrnn.layers`.
        params: the cell's, or the layer's, which nest as its parts do.
        state: the state before the first step; by default zeros, or the learned
            start. The final state can be passed as the next call's `state`: running
            in pieces equals running the whole.
        gradient: "manual", the hand-derived BPTT of `jaxrnn.bptt` (reverse mode; it
            can be differentiated again, in both modes), or "autodiff", JAX's own, for
            comparison and forward mode. The outputs are equal to the bit.
        chunk_size: steps that the backward pass linearises at once; by default about
            1000 rows of steps times batch. It need not divide T, and changes results
            only by rounding.
        store: what each step stores for the backward pass: "activations", all that it
            needs; "states", from which a chunk's activations are computed again by
            two large products; "borders", only the state before each chunk, from which
            the chunk is run again: with `chunk_size` near √T, memory grows with √T
            instead of T. By default "activations" for wide layers (D + H of 192 or
            more), "states" for narrow ones.
        lengths: integers [...], the length of each row, in 0..T. Past it outputs are
            zero, and no input there, even NaN or inf, reaches an output or a gradient;
            the final state is the one at the length. Traced, it is clamped to 0..T.
        mask: booleans [T, ...], True where a step is taken. Elsewhere the state is
            held and the last output repeated, as in Keras's Masking.
        resets: booleans [T, ...], or numbers that are 0 or 1. Where true, the row
            starts anew: its state before that step is the layer's initial state
            (zeros, or the learned start), whatever `state` is, and no gradient crosses.
        reset_to: the state that a reset starts from instead.
        reverse: run from the last step to the first, each row inside its own length;
            outputs stay beside their inputs.
        return_states: return every part of every state instead of `hs`; for a layer,
            those of all its cells, nested as its state is.
        noise: required for a layer with noise: a key to draw it from, the result of
            `layers.draw_noise`, or None to evaluate without noise.
    Returns: (hs, final state).
    Raises:  ValueError or TypeError, at trace time, for a wrong rank, feature size,
             dtype, state or option.
    Edge:    T = 0 gives empty outputs, the initial state and zero gradients.
    Source:  the seed's equation 56.
    """
    edges = {"lengths": lengths, "mask": mask}
    edges |= {"resets": resets, "reset_to": reset_to}
    options = {"chunk_size": chunk_size, "store": store, "reverse": reverse}
    hs, final, _ = unfold(
        as_layer(cell),
        params,
        xs,
        state,
        gradient=gradient,
        return_states=return_states,
        noise=noise,
        **edges,
        **options,
    )
    return hs, final


def last(hs: Any, lengths: Any = None) -> Any:
    """The last output of every row.

    Shapes:  hs [T, ..., H], or a pytree of such, lengths [...] -> [..., H].
    Args:
        lengths: as given to `unroll`; past a row's length its outputs are zero, so
            `hs[-1]` would not be its last one. None: the last output is `hs[-1]`.
    Returns: the outputs; zeros for a row of length 0.
    Raises:  ValueError or TypeError for lengths of a wrong shape or dtype, and if `hs`
             has no steps.
    """
    hs = jax.tree.map(lambda a: check_rank("hs", a, "[T, ..., H]", 1), hs)
    leaves = jax.tree.leaves(hs)
    if not leaves or any(len(a) == 0 for a in leaves):
        raise ValueError("hs: expected outputs [T, ..., H] of one step or more")
    if lengths is None:
        return jax.tree.map(lambda a: a[-1], hs)
    axes = leaves[0].shape[:-1]
    if hs is not leaves[0]:  # a pytree, of whose leaves each has axes of its own
        axes = len(leaves[0]), *as_array("lengths", lengths, allow_lists=True).shape
    inside = make_marks(axes, lengths).inside
    assert inside is not None  # since lengths are given
    for a in leaves:
        check_shape("lengths", inside[0], a.shape[1 : len(axes)])
    before_end = inside & ~jnp.concatenate([inside[1:], jnp.zeros_like(inside[:1])])
    return jax.tree.map(lambda a: live_only(Marks(before_end), a).sum(0), hs)


def unfold(
    layer: Layer,
    params: Any,
    xs: Any,
    state: Any = None,
    *,
    gradient: str = "manual",
    chunk_size: int | None = None,
    store: Store | None = None,
    reverse: bool = False,
    return_states: bool = False,
    **edges: Any,
) -> tuple[Any, Any, Marks]:
    """`unroll` for a layer; also returns the marks of its lengths and resets."""
    check_choice("gradient", gradient, get_args(Gradient))
    check_plan(chunk_size, store)
    check_flag("reverse", reverse)
    check_flag("return_states", return_states)
    plan = Plan(chunk_size or 0, store, return_states)
    carrier, marks, xs = enter(layer, params, xs, state, **edges)
    try:
        hs, final = _compiled(layer, gradient, plan, reverse, carrier, marks, xs)
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise TypeError(
            "gradient: the manual one is for reverse mode; for jvp, jacfwd and "
            'linearize give gradient="autodiff"'
        ) from error
    return hs, final, marks


def trajectory(
    cell: LayerLike, params: Any, xs: Any, state: Any = None
) -> tuple[Any, Any, tuple[int, ...]]:
    """Return xs as arrays, the state before every step [T, ..., H], and (T, *batch).

    Raises:  as `unroll`; ValueError for a layer that runs backward in time.
    """
    layer = as_layer(cell)
    check_forward(layer)
    carrier, _, xs = enter(layer, params, xs, state, noise=None)
    options = {"return_states": True, "noise": None}
    states, _, _ = unfold(layer, params, xs, carrier.state, **options)
    return xs, states_before(carrier.state, states), axes_of(layer.x_ndim, xs)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _compiled(layer, gradient, plan, reverse, carrier, marks, xs):
    runner = partial(_RUNNERS[gradient], plan)
    hs, states, final = route(runner, layer, carrier, marks, xs, reverse=reverse)
    return states if plan.states else hs, final
