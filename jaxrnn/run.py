"""A cell or a layer run over a sequence: what `unroll` and `bptt` share."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.backward import Deltas, Probes, run_autodiff, run_manual
from jaxrnn.cell import Cell, Layer, Params
from jaxrnn.checks import check_alike, check_inputs
from jaxrnn.chunks import Store, make_plan
from jaxrnn.forward import Fixed, vary_alike
from jaxrnn.marks import Marks, live_only, turn


class CellNoise(NamedTuple):
    """What chance does to a cell, each None or an array that multiplies.

    weights [H, G·H]: W_s. mask [..., H]: h before W_s, one for all steps.
    hold: parts [T, ..., H] in 0..1, the share of the state before that is kept.
    """

    weights: Array | None = None
    mask: Array | None = None
    hold: Any = None


class Options(NamedTuple):
    """Static choices of a run, checked."""

    gradient: str
    chunk_size: int | None
    store: Store | None
    reverse: bool
    return_states: bool
    one_way: bool = False  # whether to refuse a layer that runs backward in time


class Start(NamedTuple):
    """A part of the state, and what rides along with it to the cell."""

    now: Any
    restart: Any  # what a reset puts in place
    probe: Any  # None, or zeros [T, ...] whose gradient is this part's λ


class Probed(NamedTuple):
    """A cell's parameters, with zeros whose gradients are its δ."""

    params: Params
    deltas: Deltas


def run(
    layer: Cell | Layer,
    options: Options,
    params: Any,
    xs: Array,
    marks: Marks,
    starts: Any,
    noise: Any,
) -> tuple[Any, Any]:
    """The outputs, or every state, and the final state; what `unroll` compiles.

    Args:
        params: each cell's Params, or a `Probed` in its place.
        starts: a state with a `Start` for each part.
    """
    inputs = params, live_only(marks, xs), starts
    call = _backwards if options.reverse else _apply
    hs, states, final = call(options, marks, layer, *inputs, noise)
    return states if options.return_states else hs, final


def _apply(
    options, marks, layer, params, xs, starts, noise=None, *, reverse=False
) -> tuple[Any, Any, Any]:
    """Run a part of a layer: its outputs, its states if asked for, the final one.

    reverse: in the other direction. A reset separates two steps, so the first step
        behind it is then the one before.
    """
    if reverse:
        if options.one_way:
            raise ValueError(
                "cell: expected one that runs forward in time, since each state must "
                "follow from the one before; got a layer with a backward direction"
            )
        marks = marks._replace(reset=_behind(marks))
        return _backwards(options, marks, layer, params, xs, starts, noise)
    if isinstance(layer, Layer):
        return layer.run(partial(_apply, options, marks), params, xs, starts, noise)
    return _run_cell(options, marks, layer, params, xs, starts, noise or CellNoise())


def _behind(marks: Marks) -> Array | None:
    if marks.reset is None:
        return None
    steps = marks.reset.shape[0]
    behind = jnp.concatenate([marks.reset[1:], jnp.zeros_like(marks.reset[:1])])[:steps]
    return behind if marks.live is None else behind & marks.live


def _backwards(options, marks, layer, params, xs, starts, noise):
    """From the last step to the first; what comes out stands beside its inputs."""
    params = map_params(_turn_probes, params)
    starts = map_starts(lambda s: s._replace(probe=turn(s.probe)), starts)
    hs, states, final = _apply(
        options, turn(marks), layer, params, turn(xs), starts, noise
    )
    return turn(hs), turn(states), final


def _turn_probes(params: Any) -> Any:
    if isinstance(params, Probed):
        return params._replace(deltas=turn(params.deltas))
    return params


def _run_cell(options, marks, cell, params, xs, starts, noise):
    params, deltas = params if isinstance(params, Probed) else (params, None)
    state, restart, adjoints = (
        map_starts(lambda s, name=name: getattr(s, name), starts)
        for name in Start._fields
    )
    check_inputs(cell, params, xs, state)
    if noise.weights is not None:
        params = params._replace(w_s=params.w_s * noise.weights)
    probes = None if deltas is None else Probes(deltas, adjoints)
    plan = make_plan(params, xs, options.chunk_size, options.store)
    inputs = vary_alike(
        params,
        xs,
        marks._replace(hold=noise.hold),
        Fixed(None if marks.reset is None else restart, noise.mask),
        state,
        probes,
    )
    rule = run_manual if options.gradient == "manual" else run_autodiff
    out, final = rule(cell, plan, options.return_states, *inputs)
    out = live_only(marks, out)
    return (out[0], out, final) if options.return_states else (out, None, final)


def map_starts(f: Any, starts: Any) -> Any:
    """`f` of every Start in a state."""
    return jax.tree.map(f, starts, is_leaf=lambda s: isinstance(s, Start))


def map_params(f: Any, params: Any, *rest: Any) -> Any:
    """`f` of every cell's parameters in a layer's, and of its other leaves."""

    def is_cell(p):
        return isinstance(p, Params | Probed)

    return jax.tree.map(f, params, *rest, is_leaf=is_cell)


def check_run(
    layer: Any, params: Any, xs: Any, state: Any, reset_to: Any, noise: Any
) -> tuple[Array, Any, Any]:
    """xs, the state before the first step and the one that a reset puts in place."""
    if not isinstance(layer, Layer):
        xs, state = check_inputs(layer, params, xs, state)
    else:
        if not hasattr(xs, "shape") or len(xs.shape) < 2:
            got = getattr(xs, "shape", type(xs).__name__)
            raise ValueError(f"xs: expected an array [T, ..., D], got {got}")
        xs = jnp.asarray(xs)
        start = layer.initial_state(params, xs.shape[1:-1])
        if state is None:
            state = start
        check_alike("state", state, start)
        state = jax.tree.map(jnp.asarray, state)
    if noise is not None:
        check_noise(layer, params, xs, noise)
    if reset_to is None:
        return xs, state, state
    check_alike("reset_to", reset_to, state)
    return xs, state, jax.tree.map(jnp.asarray, reset_to)


def check_noise(layer: Cell | Layer, params: Any, xs: Array, noise: Any) -> None:
    """Raise unless the noise is what this layer would draw for inputs like xs."""
    if isinstance(layer, Layer):
        wanted = jax.eval_shape(lambda: layer.noise(jax.random.key(0), params, xs))
        check_alike("noise", noise, wanted)
    elif not isinstance(noise, CellNoise):
        raise TypeError(f"noise: expected CellNoise or None, got {noise!r:.60}")
