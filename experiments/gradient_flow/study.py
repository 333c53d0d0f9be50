"""Where gradients vanish and explode, measured and drawn.

    python -m experiments.gradient_flow

At H = 128, for Elman networks of several spectral radii, IRNN, LSTM and
GRU: what every lag contributes to the last step's gradient, at initialisation and after
training on the adding problem, with fitted rates and horizons; the gradient's norm over
training with and without clipping, and the cliff in the error of a single unit; what
truncated BPTT loses by K; measured decay against the largest Lyapunov exponent; and
every derivation of the gradient against the one by hand. Writes six figures and
prints four tables, in less than five minutes on two cores.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import optax
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from experiments.gradient_flow import figures, measurements
from experiments.gradient_flow.models import MODELS, Model, adding_problem, init, train
from jaxrnn import elman, gru, lstm, network, optim

STUDIES = ("lags", "remedies", "explosion", "cliff", "exponents", "agreement")
STUDIES += ("reach", "cost")


@dataclass(frozen=True)
class Config:
    """Where gradients vanish and explode, measured and drawn."""

    out: Path = Path("runs/gradient_flow")
    """Where the figures go."""
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


def _of_each(profiles: Any, f: Callable[[Any], Any]) -> Any:
    return {
        when: {name: f(p) for name, p in of_models.items()}
        for when, of_models in profiles.items()
    }


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    made = Table(title=title)
    for column in columns:
        made.add_column(column)
    for row in rows:
        made.add_row(*row)
    return made


def main(config: Config) -> dict[str, Any]:
    """Measure, draw and print; returns what was measured."""
    console = Console()
    config.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}

    with Progress(
        *Progress.get_default_columns(), MofNCompleteColumn(), console=console
    ) as progress:
        whole = progress.add_task("studies", total=len(config.study))

        def study(name: str, measure: Callable[[], Any], draw: Any = None) -> None:
            if name not in config.study:
                return
            progress.update(whole, description=f"studies: {name}")
            found[name] = measure()
            if draw is not None:
                draw(config.out / f"gradient_flow_{name}.png", found[name])
            progress.advance(whole)

        units, seed = config.units, config.seed
        networks: dict[str, Any] = {}
        study("lags", lambda: follow(config, progress, networks), figures.draw_lags)
        if "lags" in found:
            biases = _of_each(found["lags"], lambda p: p.bias)
            figures.draw_truncation(config.out / "gradient_flow_truncation.png", biases)
            study("remedies", lambda: remedies(config, networks))
        study(
            "explosion",
            lambda: measurements.explode(
                units, config.explosion_updates, 1, 0.005, seed
            ),
            figures.draw_explosion,
        )
        study("cliff", measurements.cliff, figures.draw_cliff)
        study(
            "exponents",
            lambda: measurements.exponents(
                config.families, units, steps=config.reach, seed=seed
            ),
            figures.draw_exponents,
        )
        study(
            "agreement",
            lambda: measurements.agreement(16, 20),
            figures.draw_agreement,
        )
        study("reach", lambda: reaches(config))
        study("cost", lambda: costs(config))
    report(console, config, found)
    return found


def reaches(config: Config) -> dict[tuple[str, float], measurements.Reach]:
    """At initialisation, by model and drive."""
    models = {f"tanh, ρ = {r}": Model(elman(), r) for r in (0.9, 1.0, 1.1)}
    models |= {
        f"tanh, ρ = {r}, normal W_s": Model(elman(), r, True) for r in (0.9, 1.0, 1.1)
    }
    models |= {"LSTM, forget bias 1": Model(lstm())}
    size = {"steps": config.reach, "rows": 8, "seed": config.seed}
    return {
        (name, drive): measurements.reach(model, config.units, drive, **size)
        for name, model in models.items()
        for drive in (0.0, 0.3, 1.0)
    }


def remedies(config: Config, networks: dict[str, Any]) -> dict[str, Any]:
    """Of two networks after training."""
    batch = batch_of(config)
    return {
        name: measurements.remedies(networks[name], batch, MODELS[name].cell)
        for name in ("tanh, ρ = 1.1", "LSTM")
        if name in config.model
    }


def costs(config: Config) -> dict[str, dict[str, float]]:
    size = (config.units, config.steps, config.rows)
    cells = {"Elman": elman(), "LSTM": lstm(), "GRU": gru()}
    return {name: measurements.cost(cell, *size) for name, cell in cells.items()}


def report(console: Console, config: Config, found: dict[str, Any]) -> None:
    """The tables of what was measured."""
    if "lags" in found:
        columns = ("", "network", "error", "rate", "95 %", "steps above 1 %")
        rows = (
            (when, name, f"{p.error:.4f}", *_rate(p))
            for when, of_models in found["lags"].items()
            for name, p in of_models.items()
        )
        title = "contributions to ∂E_T/∂W_s in the adding problem"
        console.print(table(title, columns, rows))
    if "reach" in found:
        columns = ("network", "drive", "rate", "95 %", "steps above 1 %", "exponent")
        rows = (
            (name, f"{drive:g}", *_rate(r), f"{r.exponent:.3f}")
            for (name, drive), r in found["reach"].items()
        )
        title = f"at initialisation, H = {config.units}, inputs N(0, drive²)"
        console.print(table(title, columns, rows))
    if "remedies" in found:
        rows = (
            (name, what, f"{_degrees(a.cosine):.1f}°", f"{a.norm_ratio:.3f}",
             f"{a.relative_error:.3f}")
            for name, of_ways in found["remedies"].items()
            for what, a in of_ways.items()
        )  # fmt: skip
        columns = ("network", "", "angle", "length", "rel. error")
        title = "what is done to a gradient, and its angle to the true one"
        console.print(table(title, columns, rows))
    if "cost" in found:
        columns = ("cell", *next(iter(found["cost"].values())))
        rows = (
            (name, *(f"{r:.1f}" for r in c.values()))
            for name, c in found["cost"].items()
        )
        title = "time, over one ordinary backward pass"
        console.print(table(title, columns, rows))
    console.print(f"figures: {config.out}/gradient_flow_*.png")


def _rate(p: Any) -> tuple[str, ...]:
    return f"{p.rate:.3f}", f"{p.low:.3f}-{p.high:.3f}", str(p.horizon)


def _degrees(cosine: Any) -> float:
    return float(jax.numpy.degrees(jax.numpy.arccos(cosine.clip(-1, 1))))
