"""The figure of `char_lm`: learning curves, and gradient norms around the clipping."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

_COLORS = {"elman": "#E69F00", "lstm": "#0072B2", "gru": "#009E73"}  # Okabe & Ito


def draw(path: Path, histories: dict[str, Any], grams: list[float], config) -> None:
    """Write the figure as PNG."""
    figure, (curves, norms) = plt.subplots(
        2, 1, figsize=(8, 7), sharex=True, layout="constrained"
    )
    per_window = config.batch * config.window / 1e6
    for name, h in histories.items():
        color = _COLORS[name]
        seen = per_window * np.arange(1, len(h.bits) + 1)
        curves.plot(*_smooth(seen, h.bits), color=color, alpha=0.5, lw=1)
        at = per_window * np.array(h.held_out_at)
        curves.plot(at, h.held_out, "o-", color=color, ms=4, label=f"{name}, held-out")
        norm = np.array(h.norm)
        norms.plot(seen, norm, color=color, lw=0.6, alpha=0.35)
        norms.plot(
            *_smooth(seen, norm), color=color, lw=1.5, label=f"{name}, before clipping"
        )
        norms.plot(
            *_smooth(seen, np.minimum(norm, config.clip_norm)),
            color=color,
            lw=1.5,
            ls=":",
            zorder=3,  # above the threshold's line
            label=f"{name}, after",
        )
    for order, bits in enumerate(grams, start=1):
        curves.axhline(bits, color="0.6", lw=0.8, ls="--")
        curves.annotate(
            f"{order}-gram",
            (1, bits),
            xycoords=("axes fraction", "data"),
            fontsize=8,
            xytext=(4, -3),
            textcoords="offset points",
            color="0.4",
        )
    curves.set_ylim(min(2.0, *(min(h.held_out) for h in histories.values())) - 0.1, 5)
    curves.set_ylabel("bits per character")
    curves.set_title("Held-out text (points) and training windows (thin lines)")
    norms.axhline(config.clip_norm, color="k", lw=0.8)
    norms.set_yscale("log")
    norms.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    norms.yaxis.set_major_formatter("{x:g}")
    norms.yaxis.set_minor_formatter(NullFormatter())
    norms.set_ylabel("global norm of the mean gradient")
    norms.set_xlabel("characters trained on, millions")
    norms.set_title(f"Gradient norm, clipped at {config.clip_norm:g} (black line)")
    for axes in (curves, norms):
        axes.legend(loc="upper left", bbox_to_anchor=(1.08, 1), frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _smooth(x: np.ndarray, y: Any, width: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """A running mean, where there is enough to average."""
    if len(y) < 2 * width:
        return x, np.asarray(y)
    mean = np.convolve(y, np.ones(width) / width, mode="valid")
    return x[width - 1 :], mean
