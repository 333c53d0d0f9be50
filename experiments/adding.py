"""Train an LSTM on the adding problem: a whole program to copy from.

    python -m experiments.adding

Of 50 numbers two are marked; their sum is wanted at the end. Always to answer 1 leaves
an error of 1/6. Writes runs/adding.png.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tyro
from matplotlib.figure import Figure

import jaxrnn

STEPS, ROWS, UNITS = 50, 64, 32


def draw_batch(key):
    """Data, time first: xs [T, B, 2] (numbers and marks), targets and weights."""
    k_numbers, k_first, k_second = jax.random.split(key, 3)
    numbers = jax.random.uniform(k_numbers, (STEPS, ROWS))
    first = jax.random.randint(k_first, (ROWS,), 0, STEPS // 2)
    second = jax.random.randint(k_second, (ROWS,), STEPS // 2, STEPS)
    marks = sum(jax.nn.one_hot(at, STEPS, axis=0) for at in (first, second))
    xs = jnp.stack([numbers, marks], axis=-1)
    targets = jnp.broadcast_to((numbers * marks).sum(0), (STEPS, ROWS))[..., None]
    weights = jnp.zeros((STEPS, ROWS)).at[-1].set(1)  # the last step counts, no other
    return xs, targets, weights


def main(updates: int = 1000, out: Path = Path("runs/adding.png")):
    # the network: an LSTM and a linear readout, and the optimiser
    net = jaxrnn.network(jaxrnn.lstm())
    params: Any = net.init(jax.random.key(0), 2, UNITS, 1)
    optimizer = jaxrnn.optim.recurrent(optax.adam(1e-2), clip_norm=1.0)
    opt_state = optimizer.init(params)

    @jax.jit
    def update(params, opt_state, key):
        xs, targets, weights = draw_batch(key)
        error, grads = net.gradients(params, xs, targets, weights=weights)
        changes, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, changes), opt_state, error

    # the loop
    errors = []
    for i, key in enumerate(jax.random.split(jax.random.key(1), updates), start=1):
        params, opt_state, error = update(params, opt_state, key)
        errors.append(float(error))
        if i % (updates // 10) == 0:
            print(f"{i:5d} updates: error {error:.4f}")

    # the figure
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(errors, lw=0.8, label="LSTM")
    axes.axhline(1 / 6, color="0.5", ls="--", label="always 1")
    axes.set(xlabel="updates", ylabel="squared error", title="The adding problem")
    axes.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    print(f"written: {out}")
    return errors


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
