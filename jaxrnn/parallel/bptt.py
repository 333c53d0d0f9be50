"""Backpropagation through time as one associative scan."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.bptt import _filled, _per_part
from jaxrnn.cell import Cell, Layer
from jaxrnn.checks import check_alike
from jaxrnn.parallel.run import run_layer, start_from
from jaxrnn.run import check_run


class ParallelBPTT(NamedTuple):
    """∂E/∂params, ∂E/∂xs, ∂E/∂state, and every λ_t, nested as the state is."""

    params: Any
    xs: Array
    state: Any
    adjoints: Any


def bptt(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any = None,
    cotangents: Any = None,
    *,
    final: Any = None,
) -> ParallelBPTT:
    """TODO"""
    learned = state is None
    xs, state, _ = check_run(cell, params, xs, state, None, None)
    if isinstance(cell, Cell):
        cotangents = _per_part(cotangents, xs, state)
    if final is None:
        final = jax.tree.map(jnp.zeros_like, state)
    check_alike("final", final, state)
    d = _bptt(cell, params, xs, state, cotangents, final)
    if learned and isinstance(cell, Layer):
        _, pull = jax.vjp(lambda p: cell.initial_state(p, xs.shape[1:-1]), params)
        d = d._replace(params=jax.tree.map(jnp.add, d.params, *pull(d.state)))
    return d


@partial(jax.jit, static_argnums=0)
def _bptt(layer, params, xs, state, cotangents, final):
    def from_inputs(params, xs, state, probes):
        starts = start_from(state, probes)
        hs, runs, final = run_layer(layer, None, params, xs, starts)
        return runs.states if isinstance(layer, Cell) else hs, final

    probes = jax.tree.map(lambda s: jnp.zeros((len(xs), *s.shape), s.dtype), state)
    (outputs, _), pull = jax.vjp(from_inputs, params, xs, state, probes)
    return ParallelBPTT(*pull((_filled(cotangents, outputs), final)))
