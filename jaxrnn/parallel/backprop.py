"""Backpropagation through time as one associative scan."""

from typing import Any

from jax import Array

from jaxrnn._core.checks import check_flag
from jaxrnn._core.chunks import Plan
from jaxrnn._core.door import UNSAID
from jaxrnn.backprop import BPTT, send_back
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.parallel.newton import by_scan


def bptt(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any = None,
    cotangents: Any = None,
    *,
    final: Any = None,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    reset_to: Any = None,
    reverse: bool = False,
    noise: Any = UNSAID,
) -> BPTT:
    """Run `jaxrnn.bptt` as one associative scan over time: the same gradients.

    Math:    λ_{t-1} = J_tᵀ λ_t + g_{t-1}, with J_t = ∂s_t/∂s_{t-1}: two such steps
             compose into one, so that all λ_t take O(log T) rounds. Then ∂E/∂params
             and ∂E/∂xs follow from all λ_t at once, (59) and (60).
    Shapes:  xs [T, ..., D], state parts [..., H], as in `jaxrnn.bptt`.
    Args:
        cell, params, xs, state, cotangents, final, lengths, mask, resets, reset_to,
            reverse, noise: as in `jaxrnn.bptt`; a layer's cells are scanned one after
            the other.
    Returns: a `BPTT`.
    Raises:  ValueError or TypeError, at trace time, as `jaxrnn.bptt` does, and for a
             clipped cell.
    Memory:  O(T B N²) for the Jacobians, N the size of one cell's state; O(T B N) for
             minGRU and the LRU, whose Jacobians are diagonal.
    Cost:    O(T B N³) work in O(log T) dependent rounds; the loop does O(T B N²) work
             in T rounds. The forward pass is the ordinary loop. So it can pay off with
             a small N, a long sequence and many parallel units, as of an accelerator;
             `python -m experiments.parallel` measures it.
    Source:  Wang, Bai & Pekhimenko (2020), "BPPSA: Scaling back-propagation by parallel
             scan algorithm", MLSys, §3; Blelloch (1990), §1.4.
    Edge:    T = 0 gives zero gradients but ∂E/∂state, which is `final`.
    """
    check_flag("reverse", reverse)
    edges = {"lengths": lengths, "mask": mask}
    edges |= {"resets": resets, "reset_to": reset_to}
    given = params, xs, state, cotangents, final
    return send_back(
        by_scan, Plan(), cell, *given, reverse=reverse, noise=noise, **edges
    )
