"""The benchmarks' figures: ratios over the grid, and time over two decades."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from experiments.benchmark_studies import exponent

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Okabe & Ito
_COLORS = {
    "manual": "#000000",
    "autodiff": "#999999",
    "flax linen": "#0072B2",
    "flax nnx": "#56B4E9",
    "equinox": "#E69F00",
    "haiku": "#D55E00",
    "keras": "#F0E442",
    "torch": "#009E73",
    "floor": "#CC79A7",
}


def draw_grid(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Time of the gradient over the manual one's, a panel a cell."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    figure, panels = plt.subplots(
        1,
        len(cells),
        figsize=(4.2 * len(cells), 4.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, cell in zip(panels[0], cells, strict=True):
        of_cell = [row for row in rows if row["cell"] == cell and "ratio" in row]
        sizes = list(dict.fromkeys(tuple(row["size"]) for row in of_cell))
        names = list(dict.fromkeys(row["contender"] for row in of_cell))
        for row in of_cell:
            name = row["contender"]
            if name == "manual":
                continue
            at = sizes.index(tuple(row["size"]))
            at += 0.7 * (names.index(name) / len(names) - 0.5)
            low, high = row.get("ratio_spread", (row["ratio"], row["ratio"]))
            base, *split = name.split(",")
            panel.plot([at, at], [low, high], color=_COLORS[base], lw=1, alpha=0.7)
            panel.plot(
                at,
                row["ratio"],
                "D" if split else "o",
                color=_COLORS[base],
                ms=5,
                mfc="white" if split else None,
                label=name,
            )
        panel.axhline(1, color="k", lw=1)
        panel.set_yscale("log")
        panel.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10])
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.minorticks_off()
        panel.set_xticks(
            range(len(sizes)),
            [", ".join(map(str, size)) for size in sizes],
            rotation=35,
            ha="right",
            fontsize=8,
        )
        panel.set_title(cell)
        panel.grid(axis="y", lw=0.4, alpha=0.5)
    panels[0, 0].set_ylabel("time over the manual gradient's")
    figure.supxlabel("(T, B, D, H)", fontsize=10)
    figure.suptitle("Error and gradient: above 1, slower than by hand")
    _legend_below(figure, panels[0])
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _legend_below(figure, panels) -> None:
    found: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(
        found.values(), found.keys(), loc="outside lower center", ncols=6, frameon=False
    )


def draw_sweeps(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Time over T, B and H, log-log, with the exponent fitted to the upper half."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure, panels = plt.subplots(
        len(cells),
        len(axes),
        figsize=(4 * len(axes), 3.2 * len(cells)),
        squeeze=False,
        sharey="row",
        layout="constrained",
    )
    words = {"t": "steps T", "b": "batch B", "h": "units H"}
    for cell, line in zip(cells, panels, strict=True):
        for axis, panel in zip(axes, line, strict=True):
            here = [r for r in rows if (r["cell"], r["axis"]) == (cell, axis)]
            for name in dict.fromkeys(row["contender"] for row in here):
                curve = [(r["value"], r["ms"]) for r in here if r["contender"] == name]
                values, times = np.array(curve).T
                label = f"{name}: {words[axis][-1]}^{exponent(values, times):.2f}"
                panel.plot(values, times, "o-", color=_COLORS[name], ms=4, label=label)
            panel.set(xscale="log", yscale="log", title=f"{cell}, {words[axis]}")
            panel.grid(lw=0.4, alpha=0.5)
            panel.legend(fontsize=8, frameon=False, loc="upper left")
        line[0].set_ylabel("ms")
    for panel in panels[-1]:
        panel.set_xlabel(panel.get_title().split(", ")[1])
    figure.suptitle("Error and gradient around (T, B, D, H) = (100, 32, 64, 128)")
    figure.savefig(path, dpi=150)
    plt.close(figure)
