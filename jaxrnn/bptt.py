"""The hand-derived backward pass called by hand: gradients, and every δ_t and λ_t."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.backward import Deltas
from jaxrnn.cell import Cell, Layer, Params
from jaxrnn.checks import check_alike, check_array, check_flag, check_plan
from jaxrnn.chunks import Store
from jaxrnn.marks import make_marks
from jaxrnn.run import Options, Probed, Start, check_run, map_params, run


class BPTT(NamedTuple):
    """What a backward pass gives: ∂E/∂params, ∂E/∂xs, ∂E/∂state, every δ_t and λ_t.

    Of a layer, `deltas` nests as its params do and `adjoints` as its state does.
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
    resets: Any = None,
    reset_to: Any = None,
    reverse: bool = False,
    noise: Any = None,
) -> BPTT:
    """The hand-derived backward pass, called by hand: gradients, every δ_t and λ_t.

    Math:    λ_t = g_t + carry_t, carry_{t-1} = s̄_{t-1} + δr_t W_sᵀ in its h part;
             ∂E/∂W_s = Σ_t h_{t-1}ᵀ δr_t (59); ∂E/∂W_x = Σ_t x_tᵀ δz_t (60)
    Shapes:  xs [T, ..., D], state parts [..., H] -> params as given, xs [T, ..., D],
             state parts [..., H], deltas.z and deltas.r [T, ..., G·H], adjoints
             parts [T, ..., H].
    Args:
        state: the state before the first step; its default is `unroll`'s.
        cotangents: ∂E/∂hs [T, ..., H], or one such array or None for each part of
            a cell's state; None if only the final state matters.
        final: ∂E/∂ the final state, parts [..., H]; zeros by default.
        chunk_size, store, lengths, resets, reset_to, reverse, noise: as in `unroll`.
            Past a row's length its cotangents are not read, and its δ and λ are zero.
    Raises:  ValueError or TypeError, at trace time, as `unroll` does, and for
             cotangents of another shape or dtype than the states.
    Source:  Werbos (1990), Proc. IEEE 78, 1550-1560; the seed's equations 48-60.
    """
    learned = state is None
    xs, state, restart = check_run(cell, params, xs, state, reset_to, noise)
    check_plan(chunk_size, store)
    check_flag("reverse", reverse)
    marks = make_marks(xs, lengths, resets)
    if isinstance(cell, Cell):
        cotangents = per_part(cotangents, xs, state)
    if final is None:
        final = jax.tree.map(jnp.zeros_like, state)
    check_alike("final", final, state)
    options = Options("manual", chunk_size, store, reverse, isinstance(cell, Cell))
    own_restart = None if reset_to is None else restart
    inputs = params, xs, marks, state, own_restart, noise, cotangents, final
    d = _bptt(cell, options, *inputs)
    if learned and isinstance(cell, Layer):
        _, pull = jax.vjp(lambda p: cell.initial_state(p, xs.shape[1:-1]), params)
        d = d._replace(params=jax.tree.map(jnp.add, d.params, *pull(d.state)))
    return d


@partial(jax.jit, static_argnums=(0, 1))
def _bptt(layer, options, params, xs, marks, state, restart, noise, cotangents, final):
    def from_inputs(params, xs, state, deltas, adjoints):
        probed = map_params(
            lambda p, d: Probed(p, d) if isinstance(p, Params) else p, params, deltas
        )
        again = state if restart is None else restart
        starts = jax.tree.map(Start, state, again, adjoints)
        return run(layer, options, probed, xs, marks, starts, noise)

    leading = xs.shape[:-1]

    def deltas_of(p):
        if not isinstance(p, Params):
            return None
        wide = (p.w_x.shape[1], p.w_s.shape[1])
        return Deltas(*(jnp.zeros((*leading, n), xs.dtype) for n in wide))

    deltas = map_params(deltas_of, params)
    adjoints = jax.tree.map(lambda s: jnp.zeros((len(xs), *s.shape), s.dtype), state)
    (outputs, _), pull = jax.vjp(from_inputs, params, xs, state, deltas, adjoints)
    return BPTT(*pull((filled(cotangents, outputs), final)))


def per_part(cotangents: Any, xs: Array, state: Any) -> Any:
    """A cell's cotangents as a state whose parts are arrays [T, ..., H] or None."""
    if not isinstance(cotangents, tuple):
        cotangents = (cotangents, *[None] * (len(state) - 1))
    if len(cotangents) != len(state):
        raise ValueError(
            f"cotangents: expected {len(state)} parts as {type(state).__name__} has, "
            f"got {len(cotangents)}"
        )
    for name, part, given in zip(state._fields, state, cotangents, strict=True):
        if given is not None:
            shape = (xs.shape[0], *part.shape)
            check_array(f"cotangents.{name}", given, shape, part.dtype)
    return type(state)(*cotangents)


def filled(cotangents: Any, outputs: Any) -> Any:
    """The cotangents, with zeros for those left out."""

    def fill(given, out):
        return jax.tree.map(jnp.zeros_like, out) if given is None else given

    filled = jax.tree.map(fill, cotangents, outputs, is_leaf=lambda c: c is None)
    check_alike("cotangents", filled, outputs)
    return filled
