"""The style of figures: no display, and colours that everybody can tell apart."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Okabe & Ito (2008), Color Universal Design
BLACK, GREY = "#000000", "#999999"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
_COLORS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, BLACK)
MARKS = [
    {"color": color, "marker": marker, "ls": "", "mec": "k", "mew": 0.5}
    for color, marker in zip(_COLORS, "os^DvPX", strict=True)
]


def panels(rows: int, columns: int, size: tuple[float, float], **options: Any) -> Any:
    """A figure, and its axes [rows, columns]."""
    return plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **options
    )


def legend_outside(axes: Any, right: float = 1.02, **options: Any) -> None:
    """A legend to the right of the axes."""
    at = {"loc": "upper left", "bbox_to_anchor": (right, 1)}
    axes.legend(**at, frameon=False, **options)
    axes.spines[["top", "right"]].set_visible(False)


def note(axes: Any, text: str, at: tuple, along: str, shift: tuple[int, int]) -> None:
    """A small grey label on the axes' edge in x or in y (`along`)."""
    coords = {"x": ("axes fraction", "data"), "y": ("data", "axes fraction")}
    axes.annotate(
        text, at, xycoords=coords[along], fontsize=8, xytext=shift,
        textcoords="offset points", color="0.4",
    )  # fmt: skip


def save(figure: Any, path: Path, dpi: int = 130) -> None:
    """Write the figure as PNG."""
    figure.savefig(path, dpi=dpi)
    plt.close(figure)
