"""Where gradients vanish and explode, measured and drawn.

    python -m experiments.gradient_flow

At H = 128, for Elman networks of several spectral radii, IRNN, LSTM and GRU: what each
lag contributes to the last step's gradient, at initialisation and after training on the
adding problem, with fitted rates and horizons; the gradient's norm during training with
and without clipping, and the cliff in the error of a single unit; the bias of truncated
BPTT by K; the measured decay against the largest Lyapunov exponent; and every
derivation of the gradient against the manual one. Makes six figures and four tables.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import optax

from experiments.adding import draw_batch
from experiments.gradient_flow import measurements
from experiments.gradient_flow.figures import draw
from experiments.gradient_flow.models import MODELS, train
from experiments.lib.pages import Pages
from experiments.lib.run_folder import Run, open_run
from experiments.lib.tables import Table, number
from jaxrnn import network, optim

STUDIES = ("lags", "remedies", "explosion", "cliff", "reach", "agreement", "cost")


@dataclass(frozen=True)
class Config:
    out: Path | None = None
    """Run folder; by default the next free runs/gradient_flow-N."""
    study: tuple[str, ...] = STUDIES
    """What to measure; "remedies" needs the networks trained by "lags"."""
    model: tuple[str, ...] = tuple(MODELS)
    """Networks to train and follow, by their names in the figures."""
    units: int = 128
    """H, the number of units."""
    steps: int = 60
    """T, the number of steps for lags and training."""
    rows: int = 16
    """B, the batch size."""
    updates: int = 800
    """Training updates; half as many for gradient descent with and without clipping."""
    reach: int = 200
    """T for rates and exponents at initialisation."""
    seed: int = 0


def main(config: Config) -> dict[str, Any]:
    """Measure, draw, print and write; returns what was measured."""
    out, found = open_run(config.out, "gradient_flow", asdict(config)), {}
    for name, measure in studies(config).items():
        if name in config.study:
            print(f"measuring: {name}")
            found[name] = measure()
    PAGES.finish(out, found)
    return found


def studies(config: Config) -> dict[str, Callable[[], Any]]:
    """Every study by its name."""
    units, steps, rows, seed = config.units, config.steps, config.rows, config.seed
    batch = draw_batch(jax.random.key(seed + 2), steps, rows)
    networks: dict[str, Any] = {}
    return {
        "lags": lambda: follow(config, batch, networks),
        "remedies": lambda: {
            name: measurements.remedies(MODELS[name].cell, params, batch)
            for name, params in networks.items()
            if name in ("tanh, ρ = 1.1", "LSTM")
        },
        "explosion": lambda: measurements.explode(units, config.updates // 2, seed),
        "cliff": measurements.cliff,
        "reach": lambda: measurements.reaches(units, config.reach, seed),
        "agreement": lambda: measurements.agreement(16, 20),
        "cost": lambda: measurements.costs(units, steps, rows),
    }


def follow(config: Config, batch: Any, networks: dict[str, Any]) -> dict[str, Any]:
    """Profiles by time and model; stores the trained networks in `networks`."""
    before, after = {}, {}
    length = (config.steps, config.rows, config.updates)
    optimizer = optim.recurrent(optax.adam(2e-3), clip_norm=1.0)
    for name in config.model:
        cell, key = MODELS[name].cell, jax.random.key(config.seed)
        params = network(cell).init(key, 2, config.units, 1)
        params = params._replace(cell=MODELS[name].init(key, 2, config.units))
        before[name] = measurements.profile(cell, params, batch)
        key = jax.random.key(config.seed + 1)
        networks[name], *_ = train(name, key, cell, params, optimizer, *length)
        after[name] = measurements.profile(cell, networks[name], batch)
    return {"at initialisation": before, f"after {config.updates} updates": after}


def tables(run: Run) -> list[Table]:
    """A table for each study that has one and has results."""
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
        (f"{family} {name}", drive, *_rate(r), number(r["exponent"], ".3f"))
        for family, of_names in found.items()
        for name, of_drives in of_names.items()
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
