"""Where gradients vanish and explode, measured and drawn.

    python -m experiments.gradient_flow

At H = 128, for Elman networks of several spectral radii, IRNN, LSTM and
GRU: what every lag contributes to the last step's gradient, at initialisation and after
training on the adding problem, with fitted rates and horizons; the gradient's norm over
training with and without clipping, and the cliff in the error of a single unit; what
truncated BPTT loses by K; measured decay against the largest Lyapunov exponent; and
every derivation of the gradient against the one by hand. Six figures and four tables,
in less than five minutes on two cores.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import optax
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from experiments.gradient_flow import measurements
from experiments.gradient_flow.figures import draw
from experiments.gradient_flow.models import MODELS, Model, adding_problem, init, train
from experiments.lib.pages import Pages, publish
from experiments.lib.run_folder import Run, open_run
from experiments.lib.tables import Table, number, show
from jaxrnn import elman, gru, lstm, network, optim

STUDIES = ("lags", "remedies", "explosion", "cliff", "exponents", "agreement")
STUDIES += ("reach", "cost")


@dataclass(frozen=True)
class Config:
    """Where gradients vanish and explode, measured and drawn."""

    out: Path | None = None
    """Run folder; by default the next free runs/gradient_flow-N."""
    model: tuple[str, ...] = tuple(MODELS)
    """Networks to follow, by the names in the figures."""
    units: int = 128
    """H."""
    steps: int = 60
    """T, over which lags are followed and networks trained."""
    rows: int = 16
    """B, sequences of a batch."""
    updates: int = 800
    """Of training; 0 leaves the trained networks out."""
    explosion_updates: int = 400
    """Of plain gradient descent with and without clipping."""
    reach: int = 200
    """T, for rates and exponents at initialisation."""
    study: tuple[str, ...] = STUDIES
    """What to measure; lags comes with the truncation's figure."""
    families: tuple[str, ...] = tuple(measurements.FAMILIES)
    """Networks whose decay is held against their exponent."""
    seed: int = 0


def trained(config: Config, model: Model, params: Any, every: Any) -> Any:
    """Parameters after training by Adam, clipped."""
    optimizer = optim.recurrent(optax.adam(2e-3), clip_norm=1.0)
    return train(
        jax.random.key(config.seed + 1),
        model,
        params,
        optimizer,
        steps=config.steps,
        rows=config.rows,
        updates=config.updates,
        every=every,
    )[0]


def batch_of(config: Config) -> Any:
    """What the networks are looked at on."""
    key = jax.random.key(config.seed + 2)
    return adding_problem(key, config.steps, config.rows)


def follow(config: Config, progress: Progress, networks: dict[str, Any]) -> Any:
    """Profiles by time and model; leaves the networks at the end in `networks`."""
    profiles: dict[str, Any] = {"at initialisation": {}}
    if config.updates:
        profiles[f"after {config.updates} updates"] = {}
    batch = batch_of(config)
    for name in config.model:
        model, key = MODELS[name], jax.random.key(config.seed)
        start = network(model.cell).init(key, 2, config.units, 1)
        params = start._replace(cell=init(key, model, 2, config.units, True))
        task = progress.add_task(name, total=config.updates)
        for when in profiles:
            if when != "at initialisation":

                def every(done, task=task):
                    progress.update(task, completed=done)

                params = trained(config, model, params, every)
            profiles[when][name] = measurements.profile(model, params, batch)
        networks[name] = params
    return profiles


def main(config: Config) -> dict[str, Any]:
    """Measure, draw, print and write; returns what was measured."""
    console = Console()
    out = open_run(config.out, "gradient_flow", asdict(config))
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    found: dict[str, Any] = {}
    with Progress(*columns, console=console) as progress:
        whole = progress.add_task("studies", total=len(config.study))
        for name, measure in studies(config, progress).items():
            if name in config.study:
                progress.update(whole, description=f"studies: {name}")
                found[name] = measure()
                progress.advance(whole)
    show(console, tables(publish(out, found, PAGES)))
    console.print(f"written to {out}/")
    return found


def studies(config: Config, progress: Progress) -> dict[str, Callable[[], Any]]:
    """Every study by its name."""
    units, seed = config.units, config.seed
    networks: dict[str, Any] = {}
    return {
        "lags": lambda: follow(config, progress, networks),
        "remedies": lambda: remedies(config, networks),
        "explosion": lambda: measurements.explode(
            units, config.explosion_updates, 1, 0.005, seed
        ),
        "cliff": measurements.cliff,
        "exponents": lambda: measurements.exponents(
            config.families, units, steps=config.reach, seed=seed
        ),
        "agreement": lambda: measurements.agreement(16, 20),
        "reach": lambda: reaches(config),
        "cost": lambda: costs(config),
    }


def reaches(config: Config) -> dict[str, dict[str, measurements.Reach]]:
    """At initialisation, by model and drive."""
    models = {f"tanh, ρ = {r}": Model(elman(), r) for r in (0.9, 1.0, 1.1)}
    models |= {
        f"tanh, ρ = {r}, normal W_s": Model(elman(), r, True) for r in (0.9, 1.0, 1.1)
    }
    models |= {"LSTM, forget bias 1": Model(lstm())}
    size = {"steps": config.reach, "rows": 8, "seed": config.seed}
    return {
        name: {
            f"{drive:g}": measurements.reach(model, config.units, drive, **size)
            for drive in (0.0, 0.3, 1.0)
        }
        for name, model in models.items()
    }


def remedies(config: Config, networks: dict[str, Any]) -> dict[str, Any]:
    """Of two networks after training."""
    batch = batch_of(config)
    return {
        name: measurements.remedies(networks[name], batch, MODELS[name].cell)
        for name in ("tanh, ρ = 1.1", "LSTM")
        if name in networks
    }


def costs(config: Config) -> dict[str, dict[str, float]]:
    size = (config.units, config.steps, config.rows)
    cells = {"Elman": elman(), "LSTM": lstm(), "GRU": gru()}
    return {name: measurements.cost(cell, *size) for name, cell in cells.items()}


def tables(run: Run) -> list[Table]:
    """A table for each study that has one and of which there are results."""
    parts = {"lags": _lags, "reach": _reach, "remedies": _remedies, "cost": _cost}
    return [part(run, run.results[n]) for n, part in parts.items() if n in run.results]


def _lags(run: Run, profiles: Any) -> Table:
    columns = ("", "network", "error", "rate", "95 %", "steps above 1 %")
    rows = [
        (when, name, f"{p['error']:.4f}", *_rate(p))
        for when, of_models in profiles.items()
        for name, p in of_models.items()
    ]
    return Table("contributions to ∂E_T/∂W_s in the adding problem", columns, rows)


def _reach(run: Run, found: Any) -> Table:
    columns = ("network", "drive", "rate", "95 %", "steps above 1 %", "exponent")
    rows = [
        (name, drive, *_rate(r), f"{r['exponent']:.3f}")
        for name, of_drives in found.items()
        for drive, r in of_drives.items()
    ]
    units = run.options["units"]
    return Table(f"at initialisation, H = {units}, inputs N(0, drive²)", columns, rows)


def _remedies(run: Run, found: Any) -> Table:
    rows = [
        (name, what, f"{math.degrees(math.acos(max(-1, min(1, a['cosine'])))):.1f}°",
         f"{a['norm_ratio']:.3f}", f"{a['relative_error']:.3f}")
        for name, of_ways in found.items()
        for what, a in of_ways.items()
    ]  # fmt: skip
    columns = ("network", "", "angle", "length", "rel. error")
    title = "what is done to a gradient, and its angle to the true one"
    return Table(title, columns, rows)


def _cost(run: Run, found: Any) -> Table:
    columns = ("cell", *next(iter(found.values())))
    rows = [(name, *(f"{r:.1f}" for r in c.values())) for name, c in found.items()]
    return Table("time, over one ordinary backward pass", columns, rows)


def _rate(p: Any) -> tuple[str, ...]:
    rate, low, high = (number(p[key], ".3f") for key in ("rate", "low", "high"))
    return rate, f"{low}-{high}", str(p["horizon"])


PAGES = Pages(tables, draw)
