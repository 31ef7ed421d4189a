"""An ablation in one figure: each headline metric over the labels of its axis; every seed, mean, spread, CLIP, chance."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tvts.config import Experiment, UserError
from tvts.report.scores import Metric, Scores, baseline_of
from tvts.report.style import COLOURS, GREY, MARKERS, figure

COLUMNS = 3
PANEL = (3.0, 2.35)
"""Inches."""
LEAST_SPAN = 6.0
"""Percent that a panel spans at least, so that noise does not look like an effect."""
STEP = 0.12
"""Sideways shift from one series to the next, so that points do not hide each other."""
DASHES = (0, (5, 2.5))


def draw_ablation(experiment: Experiment, name: str, scores: Scores, output: Path) -> None:
    """One panel per headline metric; subsets of its queries as further series. Raises UserError without any score."""
    runs = experiment.ablation_runs(name)
    panels: dict[Metric, list[Metric]] = {}
    for metric in scores.headlines(runs):
        panels.setdefault(metric._replace(tag=None), []).append(metric)
    if not panels:
        raise UserError(
            f"ablation {name}: none of its {len(runs)} runs has a score yet; run `snakemake ablation_{name}`"
        )
    tags = sorted({metric.tag for series in panels.values() for metric in series if metric.tag})
    looks = {tag: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, tag in enumerate([None, *tags])}
    panel = _Panel(scores, experiment.members[name], looks, baseline_of(experiment, name, scores))
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with figure(output, max(4.5, PANEL[0] * columns), PANEL[1] * rows + 0.45) as drawn:
        cells = drawn.subplots(rows, columns, squeeze=False).flatten()
        for axes, (metric, series) in zip(cells, panels.items(), strict=False):
            panel.draw(axes, metric, series)
        for axes in cells[len(panels) :]:
            axes.set_axis_off()
        drawn.supxlabel(experiment.config.ablations[name].title or name, fontsize=9.5)
        handles = panel.legend()
        drawn.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 3 * columns - 1))


@dataclass(frozen=True)
class _Panel:
    """What the panels of a figure share."""

    scores: Scores
    members: Mapping[str, list[str]]
    """Label -> runs, one per seed."""
    looks: Mapping[str | None, tuple[str, str]]
    """Tag -> colour and marker."""
    baseline: str | None
    """The CLIP run."""

    def draw(self, axes: Axes, metric: Metric, series: list[Metric]) -> None:
        """Draw `series` (the metric and its subsets) over the labels."""
        for number, one in enumerate(series):
            self._series(axes, one, STEP * (number - (len(series) - 1) / 2))
        axes.set_title(metric.title, loc="left")
        axes.set_xticks(range(len(self.members)), list(self.members))
        axes.set_xlim(-0.45, len(self.members) - 0.55)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("%")
        scale_to(axes, self.scores.chance(metric))
        if max(map(len, self.members)) > 7:
            axes.tick_params("x", rotation=20)

    def _series(self, axes: Axes, metric: Metric, shift: float) -> None:
        colour, marker = self.looks[metric.tag]
        values = {place: self.scores.values(runs, metric) for place, runs in enumerate(self.members.values())}
        draw_points(axes, values, shift, colour, marker)
        level = self.scores.value(self.baseline, metric) if self.baseline else None
        if level is not None:
            axes.axhline(level, color=colour, linestyle=DASHES, linewidth=1.1, alpha=0.85, zorder=2)

    def legend(self) -> list[Line2D]:
        """One handle per series, CLIP, chance."""
        handles = [
            Line2D([], [], color=colour, marker=marker, markersize=5, label=tag.replace("=", ": ", 1) if tag else "all")
            for tag, (colour, marker) in self.looks.items()
        ]
        if self.baseline:
            handles.append(Line2D([], [], color=GREY, linestyle=DASHES, label="CLIP, frame mean"))
        return [*handles, Line2D([], [], color=GREY, linestyle=":", label="chance")]


def draw_points(axes: Axes, values: Mapping[int, list[float]], shift: float, colour: str, marker: str) -> None:
    """At each place of an axis every seed, their mean and their standard deviation; places without values are skipped."""
    found = {place + shift: seeds for place, seeds in values.items() if seeds}
    for place, seeds in found.items():
        axes.scatter([place] * len(seeds), seeds, s=14, color=colour, alpha=0.45, linewidths=0, zorder=3)
    means = [statistics.fmean(seeds) for seeds in found.values()]
    spread = [statistics.stdev(seeds) if len(seeds) > 1 else 0.0 for seeds in found.values()]
    axes.errorbar(
        list(found), means, yerr=spread, color=colour, marker=marker, markersize=5,
        markeredgecolor="white", markeredgewidth=0.6, capsize=2.5, elinewidth=1.1, zorder=4,
    )  # fmt: skip


def scale_to(axes: Axes, chance: float | None) -> None:
    """Scale to what was measured: a line where chance is near, a note at the bottom where it is far below."""
    low, high = axes.get_ylim()
    middle, half = (low + high) / 2, max(high - low, LEAST_SPAN) / 2
    low, high = max(0.0, middle - half), min(102.0, middle + half)
    if chance is not None and chance >= low - (high - low) / 3:
        axes.axhline(chance, color=GREY, linestyle=":", linewidth=1.1, zorder=1)
        low = min(low, chance - 0.06 * (high - low))
    elif chance is not None:
        axes.text(
            0.99, 0.02, f"chance {chance:.3g}", transform=axes.transAxes, ha="right", va="bottom", fontsize=7.5,
            color=GREY, zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0},
        )  # fmt: skip
    axes.set_ylim(low, high)
