"""Train an LSTM on the adding problem: a whole program to start from.

    python -m experiments.adding

Two of 50 numbers are marked; the target is their sum at the end. Always answering 1
gives an error of 1/6. Writes runs/adding.png. The task: Hochreiter & Schmidhuber
(1997), experiment 4, in the form of Le et al. (2015), arXiv 1504.00941, §4.1.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tyro
from matplotlib.figure import Figure

import jaxrnn

UNITS = 32


def draw_batch(key, steps=50, rows=64):
    """Data, time first: xs [T, B, 2] (numbers and marks), targets and weights."""
    k_numbers, k_first, k_second = jax.random.split(key, 3)
    numbers = jax.random.uniform(k_numbers, (steps, rows))
    first = jax.random.randint(k_first, (rows,), 0, steps // 2)
    second = jax.random.randint(k_second, (rows,), steps // 2, steps)
    marks = sum(jax.nn.one_hot(at, steps, axis=0) for at in (first, second))
    xs = jnp.stack([numbers, marks], axis=-1)
    targets = jnp.broadcast_to((numbers * marks).sum(0), (steps, rows))[..., None]
    weights = jnp.zeros((steps, rows)).at[-1].set(1)  # only the last step counts
    return xs, targets, weights


def main(updates: int = 1000, out: Path = Path("runs/adding.png")):
    # the network: an LSTM and a linear readout, and the optimiser
    net = jaxrnn.network(jaxrnn.lstm())
    params: Any = net.init(jax.random.key(0), 2, UNITS, 1)
    optimizer = jaxrnn.optim.recurrent(optax.adam(1e-2), clip_norm=1.0)
    opt_state = optimizer.init(params)

    @jax.jit
    def update(params: Any, opt_state, key):
        xs, targets, weights = draw_batch(key)
        grads: Any
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
