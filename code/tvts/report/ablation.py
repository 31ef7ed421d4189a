"""An ablation in one figure: each headline metric over the labels of its axis, every seed, mean and spread, CLIP and
chance.
"""

import math
import statistics
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tvts.config import Experiment, UserError
from tvts.report.scores import Metric, Scores
from tvts.report.style import COLOURS, GREY, MARKERS, figure
from tvts.report.tables import baseline_of

COLUMNS = 3
PANEL = (3.0, 2.35)
"""Inches."""
LEAST_SPAN = 6.0
"""Percent that a panel spans at least, so that noise does not look like an effect."""


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
    tags = sorted({metric.tag for metrics in panels.values() for metric in metrics if metric.tag})
    looks = {tag: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, tag in enumerate([None, *tags])}
    baseline = baseline_of(experiment, name, scores)
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with figure(output, max(4.5, PANEL[0] * columns), PANEL[1] * rows + 0.45) as drawn:
        axes = drawn.subplots(rows, columns, squeeze=False).flat
        for panel, (metric, series) in zip(axes, panels.items(), strict=False):
            _panel(panel, experiment, name, scores, metric, series, looks, baseline)
        for empty in list(axes)[len(panels) :]:
            empty.set_axis_off()
        for empty in drawn.axes[len(panels) :]:
            empty.set_axis_off()
        drawn.supxlabel(experiment.config.ablations[name].title or name, fontsize=9.5)
        handles = _legend(looks, baseline is not None)
        drawn.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 3 * columns - 1))


def _panel(
    axes: Axes,
    experiment: Experiment,
    name: str,
    scores: Scores,
    metric: Metric,
    series: list[Metric],
    looks: dict[str | None, tuple[str, str]],
    baseline: str | None,
) -> None:
    members = experiment.members[name]
    for number, one in enumerate(series):
        colour, marker = looks[one.tag]
        shift = 0.12 * (number - (len(series) - 1) / 2)
        found = {place: scores.values(runs, one) for place, runs in enumerate(members.values())}
        found = {place: values for place, values in found.items() if values}
        for place, values in found.items():
            axes.scatter([place + shift] * len(values), values, s=14, color=colour, alpha=0.45, linewidths=0, zorder=3)
        means = [statistics.fmean(values) for values in found.values()]
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in found.values()]
        axes.errorbar(
            [place + shift for place in found], means, yerr=spread, color=colour, marker=marker, markersize=5,
            markeredgecolor="white", markeredgewidth=0.6, capsize=2.5, elinewidth=1.1, zorder=4,
        )  # fmt: skip
        level = scores.value(baseline, one) if baseline else None
        if level is not None:
            axes.axhline(level, color=colour, linestyle=(0, (5, 2.5)), linewidth=1.1, alpha=0.85, zorder=2)
    _mark_chance(axes, scores.chance(metric))
    axes.set_title(metric.title, loc="left")
    axes.set_xticks(range(len(members)), list(members))
    axes.set_xlim(-0.45, len(members) - 0.55)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("%")
    if max(len(label) for label in members) > 7:
        axes.tick_params("x", rotation=20)


def _mark_chance(axes: Axes, chance: float | None) -> None:
    """A line where chance lies in view, a note at the bottom where it is far below: panels are scaled to what was measured."""
    low, high = axes.get_ylim()
    centre, half = (low + high) / 2, max(high - low, LEAST_SPAN) / 2
    low, high = max(0.0, centre - half), min(102.0, centre + half)
    axes.set_ylim(low, high)
    if chance is None:
        return
    if chance >= low - (high - low) / 3:
        axes.axhline(chance, color=GREY, linestyle=":", linewidth=1.1, zorder=1)
        axes.set_ylim(min(low, chance - 0.06 * (high - low)), high)
    else:
        axes.text(
            0.99,
            0.02,
            f"chance {chance:.3g}",
            transform=axes.transAxes,
            ha="right",
            va="bottom",
            fontsize=7.5,
            color=GREY,
        )


def _legend(looks: dict[str | None, tuple[str, str]], baseline: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=5, label=_words(tag))
        for tag, (colour, marker) in looks.items()
    ]
    if baseline:
        handles.append(Line2D([], [], color=GREY, linestyle=(0, (5, 2.5)), label="CLIP, frame mean"))
    handles.append(Line2D([], [], color=GREY, linestyle=":", label="chance"))
    return handles


def _words(tag: str | None) -> str:
    return tag.replace("=", ": ", 1) if tag else "all"
