"""What `gradient_flow` looks at: networks of several spectral radii, and their task."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrnn import Cell, elman, gru, lstm, network
from jaxrnn.gradient_flow import spectral_radius
from jaxrnn.training import Outcome, init_train_state, train_step


class Model(NamedTuple):
    """A cell, and how its W_s is drawn where that is not the cell's own way.

    radius: the spectral radius that W_s is scaled to, or None.
    gaussian: whether W_s is drawn normal in place of orthogonal.
    """

    cell: Cell
    radius: float | None = None
    gaussian: bool = False


MODELS = {
    "tanh, ρ = 0.9": Model(elman(), 0.9),
    "tanh, ρ = 1.0": Model(elman(), 1.0),
    "tanh, ρ = 1.1": Model(elman(), 1.1),
    "relu, ρ = 1.0": Model(elman("relu"), 1.0),
    "IRNN": Model(elman("relu", recurrent="identity")),
    "LSTM": Model(lstm()),
    "GRU": Model(gru()),
}


def init(key: jax.Array, model: Model, inputs: int, units: int, bias: bool) -> Any:
    """A model's parameters, its W_s as the model says."""
    k_cell, k_recurrent = jax.random.split(key)
    params = model.cell.init(k_cell, inputs, units, bias=bias)
    if model.gaussian:
        params = params._replace(w_s=jax.random.normal(k_recurrent, (units, units)))
    if model.radius is None:
        return params
    return params._replace(w_s=params.w_s * model.radius / spectral_radius(params.w_s))


def adding_problem(key: jax.Array, steps: int, rows: int) -> tuple[Any, Any, Any]:
    """xs [T, B, 2], targets [T, B, 1], weights [T, B]: the last step's error counts.

    Two numbers of 0..1, one marked in each half; their sum is wanted. Always to answer
    1 leaves 1/6. Hochreiter & Schmidhuber (1997), experiment 4, in the form of Le et
    al. (2015), arXiv 1504.00941, §4.1.
    """
    k_values, k_first, k_second = jax.random.split(key, 3)
    values = jax.random.uniform(k_values, (steps, rows))
    half = steps // 2
    at = [
        jax.random.randint(k_first, (rows,), 0, half),
        jax.random.randint(k_second, (rows,), half, steps),
    ]
    marks = sum(jax.nn.one_hot(a, steps, axis=0) for a in at)
    last = jnp.zeros((steps, rows)).at[-1].set(1)
    targets = jnp.broadcast_to((values * marks).sum(0), (steps, rows))
    return jnp.stack([values, marks], axis=-1), targets[..., None], last


def train(
    key: jax.Array,
    model: Model,
    params: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    rows: int,
    updates: int,
    every: Any = lambda done: None,
) -> tuple[Any, jax.Array, jax.Array]:
    """Parameters after training on the adding problem; errors and norms by update.

    every: called with the number of updates done, now and then.
    """
    net = network(model.cell)

    def loss(params, state, key):
        xs, targets, weights = adding_problem(key, steps, rows)
        return net.error(params, xs, targets, weights=weights), Outcome(state)

    update = train_step(loss, optimizer)
    state = init_train_state(params, optimizer)
    errors, norms = [], []
    for done, k in enumerate(jax.random.split(key, updates), start=1):
        state, (error, *_) = update(state, k)
        errors.append(error)
        norm = optax.tree.get(state.opt_state, "ClipState").norm
        norms.append(jnp.copy(norm))  # the state is donated
        if done % 50 == 0 or done == updates:
            every(done)
    return state.params, jnp.stack(errors), jnp.stack(norms)
