"""How nearly the manual gradient equals the automatic one, over every kind of call.

    python -m experiments.agreement

For each cell, activation, bias, batch rank and chunk size: the largest relative error
of a leaf of the gradient (parameters, inputs, initial state) by hand, ‖manual -
autodiff‖ / ‖autodiff‖, in float64 and in float32. Takes some minutes, nearly all of it
compilation.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxrnn

CELLS = {
    **{f"elman {a}": jaxrnn.elman(a) for a in ("tanh", "relu", "sigmoid", "identity")},
    "elman sin (callable)": jaxrnn.elman(jnp.sin),
    "lstm": jaxrnn.lstm(),
    "gru": jaxrnn.gru(),
}
DTYPES: tuple[str, ...] = ("float64", "float32")


@dataclass(frozen=True)
class Config:
    """How nearly the manual gradient equals the automatic one."""

    cell: tuple[str, ...] = tuple(CELLS)
    """Cells to compare, by the names in the table."""
    steps: int = 50
    """T, the length of the sequences."""
    chunks: tuple[int, ...] = (1, 16, 50)
    """Chunk sizes."""


def error(cell, chunk, arguments, gradient):
    """A nonlinear function of every state and of the final one."""
    options = {"gradient": gradient, "chunk_size": chunk, "return_states": True}
    states, final = jaxrnn.unroll(cell, *arguments, **options)
    return sum(jnp.sin(s).sum() for s in states) + sum((s**2).sum() for s in final)


@partial(jax.jit, static_argnums=(0, 1))
def relative_errors(cell, chunk, arguments):
    """‖manual - autodiff‖ / ‖autodiff‖ of each leaf."""
    manual, auto = (
        jax.grad(partial(error, cell, chunk, gradient=g))(arguments)
        for g in ("manual", "autodiff")
    )
    return jax.tree.map(
        lambda m, a: jnp.linalg.norm(m - a) / jnp.linalg.norm(a), manual, auto
    )


def largest(cell, *, steps, bias, batch, chunk, dtype) -> float:
    """The largest relative error of a leaf, on random arguments."""
    rng = np.random.default_rng(0)
    params = cell.init(jax.random.key(0), 5, 8, bias=bias, dtype=dtype)
    state = cell.initial_state(params, batch)
    draw = partial(jax.tree.map, lambda a: rng.normal(0, 0.5, a.shape).astype(dtype))
    arguments = (params, rng.normal(size=(steps, *batch, 5)).astype(dtype), draw(state))
    errors = relative_errors(cell, chunk, arguments)
    return max(float(e) for e in jax.tree.leaves(errors))


def main(config: Config) -> dict[str, dict[str, float]]:
    """Print the largest error of each cell and dtype, and return it."""
    console = Console()
    kinds = list(product((True, False), ((), (3,), (2, 3)), config.chunks))
    worst = {name: dict.fromkeys(DTYPES, 0.0) for name in config.cell}
    jobs = list(product(config.cell, DTYPES, kinds))
    for name, dtype, (bias, batch, chunk) in track(jobs, "comparing", console=console):
        with jax.enable_x64(dtype == "float64"):
            options = {"bias": bias, "batch": batch, "chunk": chunk, "dtype": dtype}
            found = largest(CELLS[name], steps=config.steps, **options)
        worst[name][dtype] = max(worst[name][dtype], found)
    table = Table(title=f"largest relative error of {len(kinds)} kinds of call")
    for column in ("cell", *DTYPES):
        table.add_column(column)
    for name, errors in worst.items():
        table.add_row(name, *(f"{errors[d]:.1e}" for d in DTYPES))
    console.print(table)
    return worst


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
