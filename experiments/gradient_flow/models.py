"""The networks of `gradient_flow`, with several spectral radii, and their training."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.progress import track

from experiments.adding import draw_batch
from jaxrnn import Cell, elman, gru, lstm, network
from jaxrnn.gradient_flow import spectral_radius
from jaxrnn.training import Outcome, init_train_state, train_step


class Model(NamedTuple):
    """A cell, and how its W_s is drawn if not by the cell.

    radius: the spectral radius that W_s is scaled to, or None.
    gaussian: whether W_s is drawn normal instead of orthogonal.
    """

    cell: Cell
    radius: float | None = None
    gaussian: bool = False

    def init(self, key: jax.Array, inputs: int, units: int, bias: bool = True) -> Any:
        """Draw the cell's parameters."""
        k_cell, k_recurrent = jax.random.split(key)
        params = self.cell.init(k_cell, inputs, units, bias=bias)
        w_s = params.w_s
        if self.gaussian:
            w_s = jax.random.normal(k_recurrent, (units, units))
        if self.radius is not None:
            w_s = w_s * self.radius / spectral_radius(w_s)
        return params._replace(w_s=w_s)


# by the names in the figures: trained, and followed
MODELS = {
    "tanh, ρ = 0.9": Model(elman(), 0.9),
    "tanh, ρ = 1.0": Model(elman(), 1.0),
    "tanh, ρ = 1.1": Model(elman(), 1.1),
    "relu, ρ = 1.0": Model(elman("relu"), 1.0),
    "IRNN": Model(elman("relu", recurrent="identity")),
    "LSTM": Model(lstm()),
    "GRU": Model(gru()),
}
# by family: looked at before training
FAMILIES = {
    "tanh": {f"ρ = {r}": Model(elman(), r) for r in (0.6, 0.9, 1.0, 1.1, 1.3)},
    "tanh, normal W_s": {
        f"ρ = {r}": Model(elman(), r, True) for r in (0.9, 1.0, 1.1, 1.3, 1.8)
    },
    "relu": {f"ρ = {r}": Model(elman("relu"), r) for r in (0.9, 1.2)},
    "LSTM": {f"forget bias {b}": Model(lstm(forget_bias=b)) for b in (0.0, 1.0, 3.0)},
    "GRU": {"": Model(gru())},
}


def train(
    name: str, key: jax.Array, cell: Cell, params: Any, optimizer: Any,
    steps: int, rows: int, updates: int,
) -> tuple[Any, jax.Array, jax.Array]:  # fmt: skip
    """Parameters after training on the adding problem; errors and norms by update."""
    net = network(cell)

    def loss(params, state, key):
        xs, targets, weights = draw_batch(key, steps, rows)
        return net.error(params, xs, targets, weights=weights), Outcome(state)

    update = train_step(loss, optimizer)
    state, metrics = init_train_state(params, optimizer), []
    for k in track(jax.random.split(key, updates), name):
        state, found = update(state, k)
        metrics.append((found.error, found.norm))
    errors, norms = map(jnp.stack, zip(*metrics, strict=True))
    return state.params, errors, norms
