"""Backpropagation through time as one associative scan."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.bptt import filled, per_part
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
    """`jaxrnn.bptt` as one associative scan over time: the same gradients.

    Math:    λ_{t-1} = J_tᵀ λ_t + g_{t-1}, with J_t = ∂s_t/∂s_{t-1}: two steps of this
             after one another are again one, so that all λ_t come in log T rounds.
             Then ∂E/∂params and ∂E/∂xs from all λ_t at once, (59) and (60).
    Shapes:  xs [T, ..., D], state parts [..., H] -> params as given, xs [T, ..., D],
             state parts [..., H], adjoints parts [T, ..., H].
    Args:
        cell: a `Cell`, or a layer from `jaxrnn.layers`, whose cells are scanned one
            after the other; without zoneout.
        state, cotangents, final: as in `jaxrnn.bptt`.
    Raises:  ValueError or TypeError, at trace time, as `jaxrnn.bptt` does, and for a
             layer with zoneout.
    Memory:  O(T B N²) for the Jacobians, N the numbers in one cell's state; O(T B N)
             for minGRU and the LRU, whose Jacobians are diagonal.
    Cost:    O(T B N³) work in O(log T) dependent rounds, where the loop has O(T B N²)
             in T. The forward pass is the loop's. Measured on two CPU cores
             (`experiments.parallel`, float32, B = 1; forward and backward together):
             at best 1.3 times as fast as the loop, for an LSTM of 4 units and T of
             1000; even for minGRU and the LRU of 64; slower by 1.6 to 7 times for
             Elman, and by 3 for an LSTM of 16. By its arithmetic it wants a wide
             accelerator, a long sequence and a small N; none was measured.
    Source:  Wang, Bai & Pekhimenko (2020), "BPPSA: Scaling back-propagation by parallel
             scan algorithm", MLSys, §3; Blelloch (1990), §1.4.
    Edge:    T = 0 gives zero gradients but ∂E/∂state, which is `final`.
    """
    learned = state is None
    xs, state, _ = check_run(cell, params, xs, state, None, None)
    if isinstance(cell, Cell):
        cotangents = per_part(cotangents, xs, state)
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
    return ParallelBPTT(*pull((filled(cotangents, outputs), final)))
