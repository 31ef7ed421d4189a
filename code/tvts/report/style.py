"""One look for all figures: Okabe-Ito colours (told apart with any colour vision), thin axes, PNG and PDF."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tvts.files import atomic

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#6B6B6B"
RC: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#333333",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "svg.hashsalt": "tvts",
}


@contextmanager
def figure(output: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure in inches; on success written to `output` (PNG) and beside it as PDF, the same bytes for the same
    content.
    """
    with plt.rc_context(RC):
        drawn = plt.figure(figsize=(width, height), layout="constrained")
        try:
            yield drawn
            for path, metadata in ((output, {"Software": None}), (output.with_suffix(".pdf"), {"CreationDate": None})):
                with atomic(path) as temporary:
                    drawn.savefig(temporary, format=path.suffix[1:], metadata=metadata, facecolor="white")
        finally:
            plt.close(drawn)


def say(axes: Axes, message: str) -> None:
    """Put a line where data would be."""
    axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_axis_off()
