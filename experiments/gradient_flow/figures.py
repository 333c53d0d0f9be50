"""The figures of `gradient_flow`, from its results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm

from experiments.gradient_flow.measurements import SHARE
from experiments.lib import plots
from experiments.lib.plots import legend_outside, note, panels
from experiments.lib.run_folder import Run

# one line style each, so that they differ not only in colour
_STYLES = {
    "tanh, ρ = 0.9": {"color": plots.SKY, "ls": "-"},
    "tanh, ρ = 1.0": {"color": plots.BLUE, "ls": "--"},
    "tanh, ρ = 1.1": {"color": plots.BLACK, "ls": ":"},
    "relu, ρ = 1.0": {"color": plots.ORANGE, "ls": "-"},
    "IRNN": {"color": plots.VERMILION, "ls": "--"},
    "LSTM": {"color": plots.GREEN, "ls": "-"},
    "GRU": {"color": plots.PURPLE, "ls": "-."},
}
_SEED = 10  # steps that a plain network sees, by the seed


def draw(run: Run, folder: Path) -> None:
    """Write a figure for each study with results."""
    found = run.results
    for name, (study, part) in _PARTS.items():
        if study in found:
            plots.save(part(found[study]), folder / f"gradient_flow_{name}.png")


def _lags(profiles: Mapping[str, Any]) -> Any:
    """Contribution against lag, at initialisation and after training."""
    figure, column = panels(len(profiles), 1, (9, 4 * len(profiles)), sharex=True)
    for (axes,), (when, of_models) in zip(column, profiles.items(), strict=True):
        for name, p in of_models.items():
            norms = np.array(p["norms"], float)
            label = f"{name}: {p['rate']:.3f} a step, {p['horizon']} steps"
            shown = np.where(norms > 0, norms / norms.max(), np.nan)
            axes.plot(shown, lw=1.8, label=label, **_STYLES[name])
            axes.set_xlim(0, len(norms) - 1)
        axes.axhline(SHARE, color="0.5", lw=0.8)
        axes.axvline(_SEED, color="0.5", lw=0.8)
        note(axes, "10 steps", (_SEED, 1), "y", (3, -9))
        note(axes, f"{SHARE:.0%}", (1, SHARE), "x", (-20, 3))
        axes.set(yscale="log", ylim=(1e-8, 3))
        axes.set_ylabel("‖contribution to ∂E/∂W_s‖,\nof the largest")
        axes.set_title(f"What a step contributes to the last step's gradient: {when}")
        title = f"fitted rate, steps above {SHARE:.0%}"
        legend_outside(axes, title=title, fontsize=9)
    axes.set_xlabel("lag: steps back from the error")
    return figure


def _truncation(profiles: Mapping[str, Any]) -> Any:
    """The relative error of truncated BPTT against K."""
    figure, column = panels(len(profiles), 1, (9, 4 * len(profiles)), sharex=True)
    for (axes,), (when, of_models) in zip(column, profiles.items(), strict=True):
        for name, p in of_models.items():
            k = 1 + np.arange(len(p["bias"]))
            axes.plot(k, p["bias"], lw=1.8, label=name, **_STYLES[name])
            axes.set_xlim(1, len(k))
        axes.axvline(_SEED, color="0.5", lw=0.8)
        axes.set(yscale="log", ylim=(1e-6, 2))
        axes.set_ylabel("‖truncated - whole‖ / ‖whole‖")
        axes.set_title(f"What BPTT truncated at K steps loses: {when}")
        legend_outside(axes, fontsize=9)
    axes.set_xlabel("K: steps that the last step's error is sent back")
    return figure


def _explosion(found: Mapping[str, Any]) -> Any:
    """Gradient norm and error over training, with and without clipping."""
    figure, ((norms,), (errors,)) = panels(2, 1, (9, 6), sharex=True)
    colors = (plots.VERMILION, plots.BLUE)
    for (name, norm), color in zip(found["norms"].items(), colors, strict=True):
        at = 1 + np.arange(len(norm))
        style = {"color": color, "lw": 1, "label": name}
        norms.plot(at, np.array(norm, float), **style)
        errors.plot(at, np.array(found["errors"][name], float), **style)
    norms.set(yscale="log", ylabel="global norm of the gradient")
    norms.set_title(
        "IRNN on the adding problem, plain gradient descent: "
        "the same seed, data and rate"
    )
    errors.axhline(1 / 6, color="0.5", lw=0.8)
    note(errors, "always 1", (1, 1 / 6), "x", (-40, 3))
    errors.set(yscale="log", ylabel="squared error", xlabel="updates")
    for axes in (norms, errors):
        legend_outside(axes)
    return figure


def _cliff(found: Mapping[str, Any]) -> Any:
    """The error surface, with a clipped and an unclipped step."""
    figure, ((axes,),) = panels(1, 1, (9, 5.5))
    w, b, point = found["w"], found["b"], found["point"]
    mesh = axes.pcolormesh(
        w, b, np.maximum(found["error"], 1e-5), cmap="cividis",
        norm=LogNorm(1e-5, 0.5), shading="nearest", rasterized=True,
    )  # fmt: skip
    figure.colorbar(mesh, ax=axes, label="error (σ(x₅₀) - 0.7)²")
    free = f"-0.1 g, ‖g‖ = {found['norm']:,.0f}: it ends far outside"
    for name, end, color in (
        (free, found["free"], plots.VERMILION),
        ("-0.1 g clipped at norm 1", found["held"], plots.SKY),
    ):
        way = np.stack([point, end]).T
        axes.plot(*way, color=color, lw=2.5, marker="o", ms=4, label=name)
    axes.plot(*point, "o", color="white", mec="k", ms=8, zorder=5, label="start")
    axes.set(xlim=(w[0], w[-1]), ylim=(b[0], b[-1]), xlabel="w", ylabel="b")
    axes.set_title(
        "The cliff: one unit, x_t = w σ(x_{t-1}) + b, after 50 steps\n"
        "(Pascanu et al. 2013, figure 6)"
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)
    return figure


def _exponents(found: Mapping[str, Any]) -> Any:
    """The measured rate of decay against the largest Lyapunov exponent."""
    figure, ((axes,),) = panels(1, 1, (9, 5.5))
    for (name, networks), mark in zip(found.items(), plots.MARKS, strict=False):
        drives = [pair for of in networks.values() for pair in of.items()]
        points = [p for drive, p in drives if drive != "0"]  # at rest: transients
        x, y = zip(*((p["exponent"], np.log(p["rate"])) for p in points), strict=True)
        axes.plot(x, y, **mark, ms=8, label=name)
    ends = np.array(axes.get_xlim())
    axes.plot(ends, ends, color="0.5", lw=1, label="equal", zorder=0)
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.axvline(0, color="0.8", lw=0.8, zorder=0)
    axes.set_xlabel("largest Lyapunov exponent, nats a step (states, forward in time)")
    axes.set_ylabel("log of the fitted rate, nats a step\n(adjoints, backward in time)")
    axes.set_title("Gradients decay as fast as neighbouring states meet")
    legend_outside(axes)
    return figure


def _agreement(found: Mapping[str, Any]) -> Any:
    """Every derivation against the manual gradient, one row per leaf."""
    figure, (line,) = panels(1, len(found), (11, 7), sharey=True)
    for axes, (dtype, rows) in zip(line, found.items(), strict=True):
        leaves = list(dict.fromkeys(leaf for leaf, _, _ in rows))[::-1]
        against = dict.fromkeys(kind for _, kind, _ in rows)
        for kind, mark in zip(against, plots.MARKS, strict=False):
            mine = [(leaf, e) for leaf, k, e in rows if k == kind]
            x = [max(e, 1e-17) for _, e in mine]
            y = [leaves.index(leaf) for leaf, _ in mine]
            axes.plot(x, y, **mark, ms=7, label=kind)
        axes.axvline(float(np.finfo(dtype).eps), color="0.5", lw=0.8)
        axes.set(xscale="log", xlabel="relative error of a leaf", title=dtype)
        axes.set_yticks(range(len(leaves)), leaves, fontsize=8)
        axes.grid(axis="y", lw=0.4, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    legend_outside(line[-1], title="against")
    figure.suptitle(
        "The gradient by hand against every other "
        "(grey line: eps; at the left edge: equal to the bit)"
    )
    return figure


# by figure: the study whose results it shows, and how
_PARTS = {
    "lags": ("lags", _lags),
    "truncation": ("lags", _truncation),
    "explosion": ("explosion", _explosion),
    "cliff": ("cliff", _cliff),
    "exponents": ("reach", _exponents),
    "agreement": ("agreement", _agreement),
}
