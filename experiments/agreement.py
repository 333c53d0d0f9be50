"""How closely the manual gradient agrees with other ones, for every kind of model.

    python -m experiments.agreement

For each cell and layer: the largest relative error of a leaf of the manual gradient
(parameters, inputs, initial state), ‖manual - autodiff‖ / ‖autodiff‖, in float64 and
float32, over biases, batch ranks and chunk sizes, with and without lengths, resets,
`reverse` and noise. In float64 also the worst row of `check_gradients`: against reverse
and forward differentiation and the adjoint identity, and against finite differences.
Takes some minutes, mostly compiling.
"""

from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.progress import track

import jaxrnn
from experiments.lib.pages import Pages
from experiments.lib.run_folder import Run, open_run
from experiments.lib.tables import Table, number
from jaxrnn import bidirectional, elman, gru, layer_norm, lstm, stack
from jaxrnn.gradcheck import relative_errors
from jaxrnn.layers import draw_noise, learned_start, noisy

MODELS = {
    **{f"elman {a}": elman(a) for a in ("tanh", "relu", "sigmoid", "identity")},
    "elman sin (callable)": elman(jnp.sin),
    "irnn": elman("relu", recurrent="identity"),
    "lstm": lstm(),
    "lstm, peepholes": lstm(peepholes=True),
    "lstm, coupled": lstm(coupled=True),
    "lstm, projection": lstm(projection=4),
    "lstm, layer norm": layer_norm(lstm(memory_norm=True)),
    "gru": gru(),
    "gru, reset before": gru(reset_after=False),
    "gru, layer norm": layer_norm(gru()),
    "mgu": jaxrnn.mgu(),
    "indrnn": jaxrnn.indrnn(),
    "mingru": jaxrnn.mingru(),
    "lru": jaxrnn.lru(),
    "stack": stack(lstm(), gru(), elman()),
    "stack, residual": stack(lstm(), gru(), skip="residual", dropout=0.2),
    "stack, input": stack(lstm(), gru(), skip="input", dropout=0.2),
    "bidirectional": bidirectional(lstm()),
    "bidirectional, sum": bidirectional(gru(), merge="sum"),
    "bidirectional, product": bidirectional(gru(), merge="product"),
    "bidirectional, mean": bidirectional(gru(), merge="mean"),
    "bidirectional stack": stack(bidirectional(lstm()), bidirectional(lstm())),
    "masks on x and h": noisy(lstm(), inputs=0.2, state=0.3),
    "DropConnect": noisy(lstm(), weights=0.4),
    "zoneout": noisy(lstm(), zoneout=(0.1, 0.3)),
    "learned start": learned_start(stack(noisy(gru(), state=0.2), lstm())),
}
DTYPES: tuple[str, ...] = ("float64", "float32")
CHECKS: tuple[str, ...] = ("check_gradients", "differences")


@dataclass(frozen=True)
class Config:
    model: tuple[str, ...] = tuple(MODELS)
    """Cells and layers to compare, by the names in the table."""
    steps: int = 50
    """T, the length of the sequences."""
    chunks: tuple[int, ...] = (1, 16, 50)
    """Chunk sizes, one for each batch rank from 0 on; all but the first with edges."""
    out: Path | None = None
    """Run folder; by default the next free runs/agreement-N."""


def error(model, params, xs, state, edges, **options):
    """A nonlinear function of every output and of the final state."""
    hs, final = jaxrnn.unroll(model, params, xs, state, **options, **edges)
    return jnp.sin(hs).sum() + sum((s**2).sum() for s in jax.tree.leaves(final))


@partial(jax.jit, static_argnums=(0, 1, 2))
def both_gradients(model, chunk, reverse, arguments, edges):
    """By hand, and JAX's own."""
    of = partial(error, model, chunk_size=chunk, reverse=reverse)
    return tuple(
        jax.grad(lambda a, g=g: of(a[0], a[1], a[2], edges, gradient=g))(arguments)
        for g in ("manual", "autodiff")
    )


def draw(model, *, steps, bias, batch, edges, dtype):
    """Random arguments, and lengths, resets and noise if asked for."""
    rng = np.random.default_rng(0)
    params = model.init(jax.random.key(0), 5, 8, bias=bias, dtype=dtype)
    state = model.initial_state(params, batch)
    xs = jnp.asarray(rng.normal(size=(steps, *batch, 5)).astype(dtype))
    start = jax.tree.map(lambda a: rng.normal(0, 0.5, a.shape).astype(dtype), state)
    if not edges:
        return (params, xs, start), {"noise": None}
    return (params, xs, start), {
        "lengths": rng.integers(steps // 2, steps + 1, batch),
        "resets": rng.random((steps, *batch)) < 0.1,
        "noise": draw_noise(jax.random.key(1), model, params, xs),
    }


def audit(model, steps) -> tuple[float, float]:
    """The worst row of `check_gradients`, and its worst against differences."""
    kind = {"bias": True, "batch": (3,), "edges": True, "dtype": "float32"}
    (params, xs, state), edges = draw(model, steps=steps, **kind)
    of = partial(error, model, reverse=True)
    report = jaxrnn.check_gradients(of, params, xs, state, edges)
    rows = {True: [], False: []}
    for row in report.comparisons:
        rows[row.against == "differences"].append(row.relative_error)
    return max(rows[False]), max(rows[True])


def main(config: Config) -> dict[str, dict[str, float]]:
    """Print and write the largest errors of each model, and return them."""
    out = open_run(config.out, "agreement", asdict(config))
    kinds = list(zip(((), (3,), (2, 3)), config.chunks, strict=False))
    found = {}
    for name in track(config.model, "comparing"):
        model, worst = MODELS[name], dict.fromkeys(DTYPES, 0.0)
        for dtype, (batch, chunk) in product(DTYPES, kinds):
            edges, bias = len(batch) > 0, len(batch) < 2
            kind = {"bias": bias, "batch": batch, "edges": edges, "dtype": dtype}
            with jax.enable_x64(dtype == "float64"):
                arguments, given = draw(model, steps=config.steps, **kind)
                pair = both_gradients(model, chunk, edges, arguments, given)
            errors = relative_errors(*pair).values()
            worst[dtype] = float(np.max([worst[dtype], *errors]))
        found[name] = worst | dict(zip(CHECKS, audit(model, config.steps), strict=True))
    PAGES.finish(out, found)
    return found


def tables(run: Run) -> list[Table]:
    """The largest errors, one row per model."""
    title = f"largest relative error of {len(run.options['chunks'])} kinds of call"
    rows = [
        [name, *(number(e, ".1e") for e in errors.values())]
        for name, errors in run.results.items()
    ]
    return [Table(title, ("model", *DTYPES, *CHECKS), rows)]


PAGES = Pages(tables)

if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
