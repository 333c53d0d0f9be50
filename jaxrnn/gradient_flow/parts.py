"""The cells of a layer, each as it ran and with the errors that reached it.

Every instrument measures one layer that runs forward in time. So a deep layer is split:
a part is a cell or a transition with its own inputs, state and errors, in its own order
of time. The direction that runs backward, too, is then one that runs forward.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.chunks import Plan
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.marks import Marks, changes_states
from jaxrnn._core.numerics import real_only
from jaxrnn._core.route import route
from jaxrnn._core.runners import by_hand
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, Layer, Transition


class Run(NamedTuple):
    """What an instrument is given; `cotangents` and `final` are errors of this part."""

    params: Any
    xs: Any
    state: Any
    cotangents: Any
    final: Any
    lengths: Any
    resets: Any


class Part(NamedTuple):
    """A cell or a transition of a layer.

    name: its place in the layer's state, such as 0.forward; empty for the only one.
    run: None if the instruments cannot repeat what it ran; `why` then says why.
    """

    name: str
    cell: Cell | Transition
    run: Run | None
    why: str


class _Ran(NamedTuple):
    """The inputs of one call of a runner."""

    params: Any
    state: Any
    restart: Any
    marks: Marks
    xs: Any


def outputs_of(layer: Layer, carrier: Carrier, marks: Marks, xs: Any) -> Any:
    """The shapes of a layer's outputs."""
    return jax.eval_shape(lambda: _watch(layer, carrier, marks, xs, None)[0])


def parts_of(
    layer: Layer, carrier: Carrier, marks: Marks, xs: Any, cotangents: Any, final: Any
) -> Iterator[Part]:
    """Run a layer, and split it.

    Args:
        carrier, marks, xs: from `enter`.
        cotangents, final: ∂E/∂ its outputs and its final state, None where they have no
            gradient.
    """
    cells: list[tuple[str, Cell | Transition]] = []

    def outline():
        _, _, ran, made = _watch(layer, carrier, marks, xs, None, cells)
        del ran
        return made

    probes = jax.tree.map(
        lambda a: jnp.zeros(a.shape, a.dtype), real_only(jax.eval_shape(outline))
    )
    given = carrier, marks, xs, cotangents, final
    found = zip(cells, *_pull(layer, probes, *given), strict=True)
    for (name, cell), ran, (d_outputs, d_final) in found:
        why = _why_not(cell, ran)
        run = None if why else _as_run(ran, d_outputs, d_final)
        yield Part(name, cell, run, why)


@partial(jax.jit, static_argnums=0)
def _pull(layer, probes, carrier, marks, xs, cotangents, final):
    """Every part's inputs, and the errors of its outputs and of its final state."""

    def run(probes):
        outputs, last, ran, _ = _watch(layer, carrier, marks, xs, probes)
        return real_only((outputs, last)), ran

    _, pull, ran = jax.vjp(run, probes, has_aux=True)
    (errors,) = pull((cotangents, final))
    return ran, errors


def _watch(layer, carrier, marks, xs, probes, cells=None):
    """Run a layer: its outputs, its final state, and what every part read and gave.

    Args:
        probes: zeros added to what the parts give, which have its gradients.
        cells: a list for each part's name and cell.
    """
    ran, made = [], []

    def runner(part, on, marks, xs):
        outputs, states, last = by_hand(Plan(), part, on, marks, xs)
        if probes is not None:
            outputs, last = _added((outputs, last), probes[len(made)])
        if cells is not None:
            cells.append((_name(carrier.state, on.state), part))
        ran.append(_Ran(on.params, on.state, on.restart, marks, xs))
        made.append((outputs, last))
        return outputs, states, last

    outputs, _, final = route(runner, layer, carrier, marks, xs)
    return outputs, final, ran, made


def _added(made: Any, probes: Any) -> Any:
    return jax.tree.map(
        lambda p, a: a if p is None else a + p,
        probes,
        made,
        is_leaf=lambda p: p is None,
    )


def _name(whole: Any, state: Any) -> str:
    """Where a part's state is in its layer's."""
    leaves = jax.tree_util.tree_leaves_with_path(whole, is_leaf=lambda s: s is state)
    paths = [path for path, leaf in leaves if leaf is state]
    return jax.tree_util.keystr(paths[0], simple=True, separator=".") if paths else "?"


def _why_not(cell: Cell | Transition, ran: _Ran) -> str:
    """Why a cell by itself would not run as it did in its layer; "" if it would."""
    if not jax.tree.leaves(real_only(ran.state)):
        return "its state holds nothing that has a gradient"
    if isinstance(cell, Cell) and not cell.exact:
        return "its adjoints are clipped, so that the lags do not add up to a gradient"
    if changes_states(ran.marks):
        return "zoneout or added noise changes its state"
    if ran.marks.reset is not None and bool(ran.marks.reset.any()):
        start = jax.tree.map(jnp.asarray, _start(cell, ran))
        alike = jax.tree.map(lambda a, b: bool((a == b).all()), start, ran.restart)
        if not all(jax.tree.leaves(alike)):
            return "a reset puts another state in place than the cell's own first one"
    return ""


def _start(cell: Cell | Transition, ran: _Ran) -> Any:
    batch = axes_of(cell.x_ndim, ran.xs)[1:]
    if isinstance(cell, Cell):
        return cell.initial_state(ran.params, batch)
    start = cell.initial_state(ran.params)
    return jax.tree.map(lambda s: jnp.broadcast_to(s, (*batch, *jnp.shape(s))), start)


def _as_run(ran: _Ran, d_outputs: Any, d_final: Any) -> Run:
    live, reset = ran.marks.live, ran.marks.reset
    xs, lengths = ran.xs, None
    if live is not None:  # a part that runs backward meets the padding first
        xs, d_outputs, reset = _begun(live, (xs, d_outputs, reset))
        lengths = live.sum(0)
    if not any(bool(a.any()) for a in jax.tree.leaves(d_outputs)):
        d_outputs = None  # the error of the final state alone costs much less
    return Run(ran.params, xs, ran.state, d_outputs, d_final, lengths, reset)


def _begun(live: Array, tree: Any) -> Any:
    """Each row of arrays [T, ...] from its first step on, its padding last."""
    first = live.argmax(0, keepdims=True)
    steps = jnp.arange(len(live)).reshape(-1, *[1] * (live.ndim - 1))
    at = (steps + first) % len(live)
    return jax.tree.map(
        lambda a: jnp.take_along_axis(
            a, at.reshape(at.shape + (1,) * (a.ndim - at.ndim)), axis=0
        ),
        tree,
    )
