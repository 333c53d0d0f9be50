"""A network that learns at every step: its layer online, its readout at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxrnn._core.checks import as_arrays
from jaxrnn._core.inputs import read_inputs
from jaxrnn._core.marks import Marks, as_booleans, live_only
from jaxrnn._core.trees import describe
from jaxrnn.networks import Network, NetworkParams, read_params
from jaxrnn.online.record import Online, check_memory, where_rows


class Learner(NamedTuple):
    """A record of pure functions: a network that learns at every step.

    init(params, x, state=None) -> memory; x is a finite input like those to come, and
        its rows start from the layer's initial state, or from `state`
    update(params, memory, x, target, *, weights=None, reset=None, mask=None)
        -> (memory, (loss, grads)), one step with x [..., D] and the network's target of
        it; params and grads are `NetworkParams`

    weights [...], reset [...] and mask [...] are a step of `weights`, `resets` and
    `mask` of the network. A reset row starts anew: from the layer's initial state, and
    with what the method carries as at a start. A row outside the mask takes no step:
    its memory is kept, and it adds neither loss nor gradient. For sequences of many
    lengths, the mask is t < lengths.

    The loss is the mean of w e over all rows of the batch, so that steps can be summed:
    of T steps and B rows, the sum of losses, or of gradients, times B / Σw is the
    network's, and that is 1 / T without weights and masks.
    """

    init: Callable[..., Any]
    update: Callable[..., Any]


def learner(network: Network, method: Callable[[Any], Online]) -> Learner:
    """Make a network learn at every step, without a backward pass over the sequence.

    Math:    ∂E_t/∂W_y as in (58), and ∂E_t/∂params of the layer by the method, both
             from E_t, the error of this step alone
    Shapes:  x [..., D], target as the network's of one step, ys [..., O].
    Args:
        network: a `Network`; a function of its own as error sees one step.
        method: a function of a cell or a layer that gives an `Online`: `rtrl`, `snap1`,
            `eprop`, or `partial(truncated, k1=1, k2=8)`.
    Returns: a `Learner`.
    Raises:  TypeError for another network or method; its functions raise, at trace
             time, as the network's and the method's do. `snap1`, `eprop`, `rflo` and
             `uoro` refuse a learned start, whose derivative they do not carry.
    Source:  the seed's equation 58; Williams & Zipser (1989), Neural Computation 1,
             270-280.
    """
    if not isinstance(network, Network):
        raise TypeError(
            "network: expected a Network, such as network(lstm()), got "
            f"{describe(network)}"
        )
    online = method(network.cell) if callable(method) else method
    if not callable(method) or not isinstance(online, Online):
        raise TypeError(
            "method: expected a function of a layer that gives an Online, such as "
            f"online.rtrl or partial(online.rflo, decay=0.5), got {describe(method)}"
        )
    layer = online.layer

    def init(params, x, state=None):
        return online.init(read_params(params).cell, state, x)

    def update(params, memory, x, target, *, weights=None, reset=None, mask=None):
        params = read_params(params)
        x, batch = read_inputs(layer.x_ndim, x, name="x", over_time=False)
        target = _read_rows("target", target, batch)
        weights = _read_rows("weights", weights, batch)
        live = None if mask is None else as_booleans("mask", mask, batch)
        if live is not None:
            x, target = live_only(Marks(live), (x, target))
            weights = live if weights is None else live_only(Marks(live), weights)
        fresh = memory
        if reset is not None or live is not None:
            fresh = online.init(params.cell, None, x)
            check_memory(memory, fresh)
        if reset is not None:
            starts = as_booleans("reset", reset, batch)
            memory = where_rows(online.rows, starts, fresh, memory)
        if live is None:
            return advance(params, memory, x, target, weights)
        # A row that takes no step runs on a fresh memory, which has nothing to send
        # back, and then has its own again.
        running = where_rows(online.rows, live, memory, fresh)
        running, found = advance(params, running, x, target, weights)
        return where_rows(online.rows, ~live, memory, running), found

    def advance(params, memory, x, target, weights):
        found = []

        def cotangent(h):
            read = network.read(params, h, target, weights=weights)
            if weights is not None:  # Σ w e / Σ w, as a mean over all rows
                total = weights.sum(dtype=read[0].dtype)
                read = jax.tree.map(lambda a: a * (total / max(1, weights.size)), read)
            found.append(read)
            return read[1]

        memory, d_cell = online.update(params.cell, memory, x, cotangent)
        ((loss, _, d_readout),) = found
        return memory, (loss, NetworkParams(d_cell, d_readout))

    return Learner(init, update)


def _read_rows(name: str, tree: Any, batch: tuple[int, ...]) -> Any:
    """A pytree of arrays [*batch, ...], or raise."""
    tree = as_arrays(name, tree)
    for leaf in jax.tree.leaves(tree):
        if leaf.shape[: len(batch)] != batch:
            raise ValueError(
                f"{name}: expected the rows {list(batch)} of x first, got shape "
                f"{list(leaf.shape)}"
            )
    return tree
