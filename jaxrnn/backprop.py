"""The hand-derived backward pass as a function: equations 59 and 60, every δ and λ."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.checks import as_array, check_array, check_flag, read_alike
from jaxrnn._core.chunks import Plan, Store, check_plan
from jaxrnn._core.door import UNSAID, as_layer, enter
from jaxrnn._core.equations import Deltas
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.numerics import real_only
from jaxrnn._core.route import route
from jaxrnn._core.runners import by_hand
from jaxrnn.cell import Cell, Params
from jaxrnn.layer import Layer


class BPTT(NamedTuple):
    """The result of a backward pass: ∂E/∂params, ∂E/∂xs, ∂E/∂state, every δ_t and λ_t.

    Shapes:  params, xs and state as given; deltas.z and deltas.r [T, ..., G·H];
             adjoints parts [T, ..., H]. For a layer, `deltas` nests as its params and
             `adjoints` as its state.
    """

    params: Any
    xs: Array
    state: Any
    deltas: Any
    adjoints: Any


def bptt(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any = None,
    cotangents: Any = None,
    *,
    final: Any = None,
    chunk_size: int | None = None,
    store: Store | None = None,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    reset_to: Any = None,
    reverse: bool = False,
    noise: Any = UNSAID,
) -> BPTT:
    """Run the hand-derived backward pass: all gradients, every δ_t and λ_t.

    Math:    λ_t = g_t + carry_t, carry_{t-1} = s̄_{t-1} + δr_t W_sᵀ in its h part;
             ∂E/∂W_s = Σ_t h_{t-1}ᵀ δr_t (59); ∂E/∂W_x = Σ_t x_tᵀ δz_t (60)
    Shapes:  xs [T, ..., D], state parts [..., H] -> params as given, xs [T, ..., D],
             state parts [..., H], deltas.z and deltas.r [T, ..., G·H], adjoints
             parts [T, ..., H].
    Args:
        cell, params: as in `unroll`.
        state: the state before the first step; by default as in `unroll`.
        cotangents: ∂E/∂hs [T, ..., H], or one such array or None for each part of
            a cell's state; None if only the final state matters.
        final: ∂E/∂ the final state, parts [..., H]; None, also for a part, is zeros.
        chunk_size, store, lengths, mask, resets, reset_to, reverse, noise: as in
            `unroll`. Past a row's length cotangents are ignored, and δ and λ are zero.
    Returns: a `BPTT`.
    Raises:  ValueError or TypeError, at trace time, as `unroll` does, and if cotangents
             differ in shape or dtype from the states.
    Source:  Werbos (1990), Proc. IEEE 78, 1550-1560; the seed's equations 48-60.
    """
    check_plan(chunk_size, store)
    check_flag("reverse", reverse)
    edges = {"lengths": lengths, "mask": mask}
    edges |= {"resets": resets, "reset_to": reset_to}
    plan = Plan(chunk_size or 0, store)
    given = params, xs, state, cotangents, final
    return send_back(by_hand, plan, cell, *given, reverse=reverse, noise=noise, **edges)


def send_back(
    runner: Callable[..., Any],
    plan: Any,
    cell: Cell | Layer,
    params: Any,
    xs: Any,
    state: Any,
    cotangents: Any,
    final: Any,
    *,
    reverse: bool,
    **edges: Any,
) -> BPTT:
    """`bptt` by any runner; `plan` holds the runner's static choices."""
    layer = as_layer(cell)
    carrier, marks, xs = enter(layer, params, xs, state, **edges)
    if isinstance(cell, Cell):
        steps = axes_of(layer.x_ndim, xs)[0]
        cotangents = per_part(cotangents, steps, carrier.state)
        plan = plan._replace(states=True)
    final = filled("final", final, carrier.state)
    inputs = carrier, marks, xs, cotangents, final
    d, restart = _pull(runner, plan, layer, reverse, *inputs)
    # Gradients of the initial state, for the parameters it is made of.
    starts = [d.state] * (state is None)
    starts += [restart] * (restart is not None and edges["reset_to"] is None)
    if starts:
        batch = axes_of(layer.x_ndim, xs)[1:]
        _, pull = jax.vjp(lambda p: real_only(layer.initial_state(p, batch)), params)
        start = jax.tree.map(lambda *parts: sum(parts), *starts)
        d_params = jax.tree.map(jnp.add, d.params, *map(real_only, pull(start)))
        d = d._replace(params=d_params)
    return d


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _pull(runner, plan, layer, reverse, carrier, marks, xs, cotangents, final):
    def run(on, xs):
        on = on._replace(noise=carrier.noise)
        hs, states, last = route(
            partial(runner, plan), layer, on, marks, xs, reverse=reverse
        )
        return states if plan.states else hs, last

    params, state = carrier.params, carrier.state
    axes = axes_of(layer.x_ndim, xs)
    deltas = jax.tree.map(
        partial(_no_deltas, axes), params, is_leaf=lambda p: isinstance(p, Params)
    )
    adjoints = jax.tree.map(
        lambda s: jnp.zeros((axes[0], *s.shape), s.dtype), real_only(state)
    )
    on = carrier._replace(noise=None, deltas=deltas, adjoints=adjoints)
    (outputs, _), pull = jax.vjp(run, on, xs)
    d, d_xs = real_only(pull((filled("cotangents", cotangents, outputs), final)))
    return BPTT(d.params, d_xs, d.state, d.deltas, d.adjoints), d.restart


def _no_deltas(axes: tuple[int, ...], params: Any) -> Deltas | None:
    """Zeros whose gradients are a cell's δ; None for parameters of another kind."""
    if not isinstance(params, Params) or not hasattr(params.w_s, "shape"):
        return None  # such as the raw parameters of a `constrained` layer
    wide = params.w_x.shape[1], params.w_s.shape[1]
    return Deltas(*(jnp.zeros((*axes, n), params.w_s.dtype) for n in wide))


def per_part(cotangents: Any, steps: int, state: Any) -> Any:
    """A cell's cotangents as a state whose parts are arrays [T, ..., H] or None."""
    if not isinstance(cotangents, tuple):
        cotangents = (cotangents, *[None] * (len(state) - 1))
    if len(cotangents) != len(state):
        raise ValueError(
            f"cotangents: expected {len(state)} parts as {type(state).__name__} has, "
            f"got {len(cotangents)}"
        )
    found = []
    for name, part, given in zip(state._fields, state, cotangents, strict=True):
        if given is not None:
            given = as_array(f"cotangents.{name}", given)
            shape = (steps, *part.shape)
            check_array(f"cotangents.{name}", given, shape, part.dtype)
        found.append(given)
    return type(state)(*found)


def filled(name: str, cotangents: Any, outputs: Any) -> Any:
    """The cotangents of outputs, with zeros for those that are None."""

    def fill(given, out):
        return jax.tree.map(jnp.zeros_like, out) if given is None else given

    with suppress(ValueError):  # of another structure, which is said below
        cotangents = jax.tree.map(
            fill, cotangents, outputs, is_leaf=lambda c: c is None
        )
    return read_alike(name, cotangents, outputs)
