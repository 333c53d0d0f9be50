"""Transitions that are not cells, against autodiff of the same `lax.scan`.

    python -m experiments.transitions

Six steps as researchers write them, each for one row. Products are in the dtype of the
weights; sums over many steps are in float32 or better. The error is E = Σ w·y with a
random w. Its gradient with respect to the weights is compared in float64, and in
bfloat16 with float64 on the same numbers; time and temporary memory are of the compiled
float32 program.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array, lax
from rich.progress import track

import jaxrnn
from experiments.lib.pages import Pages
from experiments.lib.run_folder import Run, open_run
from experiments.lib.tables import Table
from experiments.lib.timing import compile_program, interleave
from jaxrnn.gradcheck import relative_errors

B, D, H = 16, 32, 64
SLOTS = 8


@dataclass(frozen=True)
class Config:
    steps: int = 1000
    """T, the steps of a sequence."""
    seconds: float = 5
    """Time for the gradients of a transition; at least 5 rounds are run."""
    out: Path | None = None
    """Run folder; by default the next free runs/transitions-N."""


class Model(NamedTuple):
    """A transition, the shapes of its weights, and the width of its output."""

    layer: jaxrnn.Transition
    shapes: dict[str, tuple[int, ...]]
    width: int


def wide(a: Array) -> Array:
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def zeros(like: Array, *shape: int) -> Array:
    return wide(jnp.zeros(shape, like.dtype))


def leaky(p, s, x):
    """A leaky rate network whose signs obey Dale's law: every fifth unit inhibits."""
    units = len(s)
    signs = jnp.where(jnp.arange(units) % 5, 1, -1).astype(p["w_s"].dtype)
    r = jnp.tanh(s).astype(x.dtype)
    drive = r @ (jnp.abs(p["w_s"]) * signs[:, None]) + x @ p["w_x"] + p["b"]
    s = 0.8 * s + 0.2 * wide(drive)
    return s, jnp.tanh(s).astype(x.dtype)


def low_rank(p, h, x):
    """A network with a low-rank W_s."""
    h = jnp.tanh((h @ p["m"]) @ p["n"].T + x @ p["w_x"] + p["b"])
    return h, h


def integration(p, h, x):
    """Multiplicative integration (Wu et al. 2016, arXiv 1606.06630, equation 4)."""
    u, v = x @ p["w_x"], h @ p["w_s"]
    h = jnp.tanh(p["a"] * u * v + p["b1"] * u + p["b2"] * v + p["b"])
    return h, h


class Stabilised(NamedTuple):
    h: Array
    c: Array
    n: Array
    m: Array


def exponential(p, s, x):
    """Exponential gates and a stabiliser (Beck et al. 2024, arXiv 2405.04517, §2.2)."""
    pre = wide(x @ p["w_x"] + s.h @ p["w_s"] + p["b"])
    i, f, z, o = jnp.split(pre, 4)
    m = jnp.maximum(f + s.m, i)
    i, f = jnp.exp(i - m), jnp.exp(f + s.m - m)
    c, n = f * s.c + i * jnp.tanh(z), f * s.n + i
    h = (jax.nn.sigmoid(o) * c / n).astype(x.dtype)
    return Stabilised(h, c, n, m), h


def matrix_memory(p, memory, x):
    """A matrix memory, written by a key and a value and read by a query."""
    q, k, v = (x @ p[name] for name in "qkv")
    keep = jax.nn.sigmoid(wide(x @ p["f"]))
    memory = keep[:, None] * memory + wide(jnp.outer(v, k)) / len(k)
    return memory, jnp.tanh(memory @ wide(q)).astype(x.dtype)


def attention(p, s, x):
    """A controller that reads slots by attention and writes them in turn."""
    h, slots, turn = s["h"], s["slots"], s["turn"]
    seen = jax.nn.softmax(wide(slots @ (h @ p["q"]))).astype(x.dtype)
    h = jnp.tanh(x @ p["w_x"] + h @ p["w_s"] + (seen @ slots) @ p["r"])
    slots = slots.at[turn % len(slots)].set(h @ p["v"])
    return {"h": h, "slots": slots, "turn": turn + 1}, h


def models(inputs: int = D, units: int = H) -> dict[str, Model]:
    """Every transition of these sizes."""
    w_x, w_s, row = (inputs, units), (units, units), (units,)

    def made(step, start, width=units, **shapes):
        layer = jaxrnn.transition(step, initial_state=start)
        return Model(layer, shapes, width)

    return {
        "leaky, Dale's law": made(leaky, _one, w_x=w_x, w_s=w_s, b=row),
        "low rank": made(low_rank, _narrow, w_x=w_x, m=(units, 2), n=(units, 2), b=row),
        "multiplicative integration": made(
            integration, _narrow, w_x=w_x, w_s=w_s, a=row, b1=row, b2=row, b=row
        ),
        "exponential gates": made(
            exponential,
            _stabilised,
            w_x=(inputs, 4 * units),
            w_s=(units, 4 * units),
            b=(4 * units,),
        ),
        "matrix memory": made(
            matrix_memory,
            _matrix,
            units // 2,
            q=(inputs, units // 2),
            k=(inputs, units // 2),
            v=(inputs, units // 2),
            f=(inputs, units // 2),
        ),
        "attention": made(attention, _slots, w_x=w_x, w_s=w_s, q=w_s, r=w_s, v=w_s),
    }


def _one(p):
    return zeros(p["b"], len(p["b"]))


def _narrow(p):
    return jnp.zeros(len(p["b"]), p["b"].dtype)


def _stabilised(p):
    h = jnp.zeros(len(p["b"]) // 4, p["b"].dtype)
    return Stabilised(h, wide(h), wide(h) + 1, wide(h))


def _matrix(p):
    return zeros(p["v"], p["v"].shape[1], p["k"].shape[1])


def _slots(p):
    h = jnp.zeros(len(p["w_s"]), p["w_s"].dtype)
    return {"h": h, "slots": jnp.zeros((SLOTS, len(h)), h.dtype), "turn": 0}


def draw(model: Model, steps: int, rows: int = B, inputs: int = D) -> Any:
    """Weights too small for chaos, inputs, and a random w for the error Σ w·y."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape)

    params = {
        name: normal(*shape) / np.sqrt(4 * shape[0])
        for name, shape in model.shapes.items()
    }
    return params, normal(steps, rows, inputs), normal(steps, rows, model.width)


def by_hand(layer: jaxrnn.Transition, **options: Any) -> Callable[..., Any]:
    """The outputs by this library."""
    return lambda params, xs: jaxrnn.unroll(layer, params, xs, **options)[0]


def by_scan(layer: jaxrnn.Transition) -> Callable[..., Any]:
    """The outputs by `lax.scan` of the mapped step, written in the usual way."""

    def run(params, xs):
        start = layer.initial_state(params)
        start = jax.tree.map(
            lambda a: jnp.broadcast_to(a, (xs.shape[1], *jnp.shape(a))), start
        )
        step = jax.vmap(layer.step, (None, 0, 0))
        return lax.scan(lambda s, x: step(params, s, x), start, xs)[1]

    return run


def gradient(run: Callable[..., Any]) -> Callable[..., Any]:
    """E = Σ w·y and its gradient with respect to the weights."""

    def error(params, xs, w):
        return wide(w * run(params, xs)).sum()

    return jax.value_and_grad(error)


def worst(run: Callable[..., Any], given: Any, wanted: Any) -> float:
    """Largest relative error of a weight's gradient."""
    found = jax.jit(gradient(run))(*given)[1]
    found = jax.tree.map(lambda g: np.asarray(g, np.float64), found)
    return max(jax.tree.leaves(relative_errors(found, wanted)))


def cast(given: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), given)


def measure(name: str, model: Model, config: Config) -> dict[str, Any]:
    """A row: both errors, and time and memory relative to autodiff."""
    ways = {"manual": by_hand(model.layer), "autodiff": by_scan(model.layer)}
    low = cast(draw(model, config.steps), jnp.bfloat16)
    row: dict[str, Any] = {"transition": name, "size": [config.steps, B, D, H]}
    with jax.enable_x64(True):
        exact = cast(low, jnp.float64)  # the numbers that bfloat16 holds
        wanted = jax.jit(gradient(ways["autodiff"]))(*exact)[1]
        wanted = jax.tree.map(np.asarray, wanted)
        row["float64_error"] = worst(ways["manual"], exact, wanted)
    for way, run in ways.items():
        row[f"bfloat16_error_{way}"] = worst(run, low, wanted)
    given = cast(draw(model, config.steps), jnp.float32)
    programs = {way: compile_program(gradient(r), *given) for way, r in ways.items()}
    times = interleave(programs, config.seconds)
    row["ms"] = float(np.median(times["manual"])) * 1e3
    row["ratio"] = float(np.median(times["manual"] / times["autodiff"]))
    for way, program in programs.items():
        row[f"temporary_mib_{way}"] = program.temporary_mib
    return row


def tables(run: Run) -> list[Table]:
    """One row per transition, relative to autodiff of the same `lax.scan`."""
    head = ["transition", "ms", "time over autodiff", "memory over autodiff"]
    head += ["float64 error", "bfloat16 error", "of autodiff"]
    lines = []
    for row in run.results:
        memory = row["temporary_mib_manual"] / row["temporary_mib_autodiff"]
        line = [row["transition"], f"{row['ms']:.1f}", f"{row['ratio']:.2f}"]
        line += [f"{memory:.2f}", f"{row['float64_error']:.0e}"]
        line += [f"{row[f'bfloat16_error_{w}']:.2%}" for w in ("manual", "autodiff")]
        lines.append(line)
    size = ", ".join(map(str, run.results[0]["size"]))
    return [Table(f"Gradient at (T, B, D, H) = ({size})", head, lines)]


PAGES = Pages(tables)


def main(config: Config) -> list[dict[str, Any]]:
    """Print and write the table, and return its rows."""
    out = open_run(config.out, "transitions", asdict(config))
    found = track(models().items(), "measuring")
    rows = [measure(name, model, config) for name, model in found]
    PAGES.finish(out, rows)
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
