"""The figures of `gradient_flow`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from experiments.gradient_flow.measurements import (
    SHARE,
    Cliff,
    Explosion,
    Exponents,
    Profile,
)

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm

# Okabe & Ito, and a line style each, so that no one rests on colour alone
_STYLES = {
    "tanh, ρ = 0.9": ("#56B4E9", "-"),
    "tanh, ρ = 1.0": ("#0072B2", "--"),
    "tanh, ρ = 1.1": ("#000000", ":"),
    "relu, ρ = 1.0": ("#E69F00", "-"),
    "IRNN": ("#D55E00", "--"),
    "LSTM": ("#009E73", "-"),
    "GRU": ("#CC79A7", "-."),
}
_SEED = 10  # steps: how far the seed says that a plain network sees


def _outside(axes: Any, **options: Any) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, **options)
    axes.spines[["top", "right"]].set_visible(False)


def draw_lags(path: Path, profiles: Mapping[str, Mapping[str, Profile]]) -> None:
    """Contribution against lag, at initialisation and after training."""
    figure, panels = plt.subplots(
        len(profiles), 1, figsize=(9, 4 * len(profiles)), sharex=True,
        layout="constrained",
    )  # fmt: skip
    for axes, (when, of_models) in zip(
        np.atleast_1d(panels), profiles.items(), strict=True
    ):
        for name, p in of_models.items():
            color, style = _STYLES[name]
            label = f"{name}: {p.rate:.3f} a step, {p.horizon} steps"
            shown = np.where(p.norms > 0, p.norms / p.norms.max(), np.nan)
            axes.plot(shown, color=color, ls=style, lw=1.8, label=label)
        axes.axhline(SHARE, color="0.5", lw=0.8)
        axes.axvline(_SEED, color="0.5", lw=0.8)
        axes.annotate(
            "10 steps", (_SEED, 1), xycoords=("data", "axes fraction"), fontsize=8,
            xytext=(3, -9), textcoords="offset points", color="0.4",
        )  # fmt: skip
        axes.annotate(
            f"{SHARE:.0%}", (1, SHARE), xycoords=("axes fraction", "data"), fontsize=8,
            xytext=(-20, 3), textcoords="offset points", color="0.4",
        )  # fmt: skip
        axes.set(yscale="log", ylim=(1e-8, 3), xlim=(0, len(shown) - 1))
        axes.set_ylabel("‖contribution to ∂E/∂W_s‖,\nof the largest")
        axes.set_title(f"What a step contributes to the last step's gradient: {when}")
        title = f"fitted rate, steps above {SHARE:.0%}"
        _outside(axes, title=title, fontsize=9)
    axes.set_xlabel("lag: steps back from the error")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_explosion(path: Path, found: Explosion) -> None:
    """Gradient norm and error over training, with and without clipping."""
    figure, (norms, errors) = plt.subplots(
        2, 1, figsize=(9, 6), sharex=True, layout="constrained"
    )
    colors = ("#D55E00", "#0072B2")
    for (name, norm), color in zip(found.norms.items(), colors, strict=True):
        at = 1 + np.arange(len(norm))
        norms.plot(at, norm, color=color, lw=1, label=name)
        errors.plot(at, found.errors[name], color=color, lw=1, label=name)
    norms.set(yscale="log", ylabel="global norm of the gradient")
    norms.set_title(
        "IRNN on the adding problem, plain gradient descent: "
        "the same seed, data and rate"
    )
    errors.axhline(1 / 6, color="0.5", lw=0.8)
    errors.annotate(
        "always 1", (1, 1 / 6), xycoords=("axes fraction", "data"), fontsize=8,
        xytext=(-40, 3), textcoords="offset points", color="0.4",
    )  # fmt: skip
    errors.set(yscale="log", ylabel="squared error", xlabel="updates")
    for axes in (norms, errors):
        _outside(axes)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_cliff(path: Path, found: Cliff) -> None:
    """The error's surface, and a clipped and an unclipped step."""
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    mesh = axes.pcolormesh(
        found.w, found.b, np.maximum(found.error, 1e-5), cmap="cividis",
        norm=LogNorm(1e-5, 0.5), shading="nearest", rasterized=True,
    )  # fmt: skip
    figure.colorbar(mesh, ax=axes, label="error (σ(x₅₀) - 0.7)²")
    low, high = (np.array([a[0], a[-1]]) for a in (found.w, found.b))
    ends = {
        f"-0.1 g, ‖g‖ = {found.norm:,.0f}: it ends far outside": (
            found.free,
            "#D55E00",
            "-",
        ),
        "-0.1 g clipped at norm 1": (found.held, "#56B4E9", "-"),
    }
    for name, (end, color, style) in ends.items():
        axes.plot(
            *np.stack([found.point, end]).T, color=color, ls=style, lw=2.5,
            marker="o", ms=4, label=name,
        )  # fmt: skip
    axes.plot(*found.point, "o", color="white", mec="k", ms=8, zorder=5, label="start")
    axes.set(xlim=low, ylim=high, xlabel="w", ylabel="b")
    axes.set_title(
        "The cliff: one unit, x_t = w σ(x_{t-1}) + b, after 50 steps\n"
        "(Pascanu et al. 2013, figure 6)"
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_truncation(path: Path, biases: Mapping[str, Mapping[str, Any]]) -> None:
    """The relative error of truncated BPTT against K."""
    figure, panels = plt.subplots(
        len(biases), 1, figsize=(9, 4 * len(biases)), sharex=True, layout="constrained"
    )
    for axes, (when, of_models) in zip(
        np.atleast_1d(panels), biases.items(), strict=True
    ):
        for name, error in of_models.items():
            color, style = _STYLES[name]
            k = 1 + np.arange(len(error))
            axes.plot(k, error, color=color, ls=style, lw=1.8, label=name)
        axes.axvline(_SEED, color="0.5", lw=0.8)
        axes.set(yscale="log", ylim=(1e-6, 2), xlim=(1, len(k)))
        axes.set_ylabel("‖truncated - whole‖ / ‖whole‖")
        axes.set_title(f"What BPTT truncated at K steps loses: {when}")
        _outside(axes, fontsize=9)
    axes.set_xlabel("K: steps that the last step's error is sent back")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_exponents(path: Path, found: Mapping[str, list[Exponents]]) -> None:
    """The measured rate of decay against the largest Lyapunov exponent."""
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    colors = ("#0072B2", "#56B4E9", "#E69F00", "#009E73", "#CC79A7")
    markers = ("o", "s", "^", "D", "v")
    for i, (name, points) in enumerate(found.items()):
        color, marker = colors[i], markers[i]
        x = [p.exponent for p in points]
        y = [np.log(p.rate) for p in points]
        axes.plot(x, y, marker, color=color, mec="k", mew=0.5, ms=8, label=name)
    ends = np.array(axes.get_xlim())
    axes.plot(ends, ends, color="0.5", lw=1, label="equal", zorder=0)
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.axvline(0, color="0.8", lw=0.8, zorder=0)
    axes.set_xlabel("largest Lyapunov exponent, nats a step (states, forward in time)")
    axes.set_ylabel("log of the fitted rate, nats a step\n(adjoints, backward in time)")
    axes.set_title("Gradients decay as fast as neighbouring states meet")
    _outside(axes)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_agreement(path: Path, found: Mapping[str, Any]) -> None:
    """Every derivation against the manual gradient, a leaf a row."""
    figure, panels = plt.subplots(
        1, len(found), figsize=(11, 7), sharey=True, layout="constrained"
    )
    markers = ("o", "s", "^", "D", "v", "P", "X")
    colors = (
        "#0072B2",
        "#E69F00",
        "#009E73",
        "#CC79A7",
        "#D55E00",
        "#56B4E9",
        "#000000",
    )
    for axes, (dtype, rows) in zip(np.atleast_1d(panels), found.items(), strict=True):
        leaves = list(dict.fromkeys(leaf for leaf, _, _ in rows))[::-1]
        against = dict.fromkeys(kind for _, kind, _ in rows)
        for i, kind in enumerate(against):
            color, marker = colors[i], markers[i]
            mine = [(leaf, e) for leaf, k, e in rows if k == kind]
            axes.plot(
                [max(e, 1e-17) for _, e in mine],
                [leaves.index(leaf) for leaf, _ in mine],
                marker, color=color, ms=7, mec="k", mew=0.4, label=kind,
            )  # fmt: skip
        axes.axvline(float(np.finfo(dtype).eps), color="0.5", lw=0.8)
        axes.set(xscale="log", xlabel="relative error of a leaf", title=dtype)
        axes.set_yticks(range(len(leaves)), leaves, fontsize=8)
        axes.grid(axis="y", lw=0.4, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    _outside(axes, title="against")
    figure.suptitle(
        "The gradient by hand against every other "
        "(grey line: eps; at the left edge: equal to the bit)"
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)
