"""Losses and held-out sorting over steps, for all trained runs."""

import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from tvts.config import Experiment, UserError
from tvts.layout import Layout
from tvts.report.style import COLOURS, GREY, figure, say
from tvts.train.metrics import read_metrics

PANELS = {
    "contrastive": "contrastive loss",
    "sorting": "sorting loss",
    "val_sorting": "held-out transcripts in place, %",
    "val_t2v_R@1": "held-out window retrieval R@1, %",
}
Curve = list[tuple[int, float]]


def draw_training(experiment: Experiment, layout: Layout, output: Path) -> None:
    """One panel per quantity; runs that differ by their seed alone share a colour, their mean is the strong line.

    Raises UserError when no run has been trained.
    """
    groups = _groups(experiment)
    records = {
        run: read_metrics(layout.metrics(run))
        for runs in groups.values()
        for run in runs
        if layout.metrics(run).exists()
    }
    shown = {label: [run for run in runs if run in records] for label, runs in groups.items()}
    shown = {label: runs for label, runs in shown.items() if runs}
    if not shown:
        raise UserError(f"{layout.root}/runs: no training has left metrics yet; run `snakemake`")
    with figure(output, 7.6, 5.4) as drawn:
        for panel, (key, title) in zip(drawn.subplots(2, 2).flat, PANELS.items(), strict=True):
            _panel(panel, shown, records, key)
            panel.set_title(title, loc="left")
            if key == "val_sorting" and panel.axison:
                panel.axhline(_chance(experiment, shown), color=GREY, linestyle=":", linewidth=1.1)
        handles, labels = drawn.axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4))


def _groups(experiment: Experiment) -> dict[str, list[str]]:
    """Label -> runs that differ by their seed alone: ablation members first, then other trained runs."""
    groups: dict[str, list[str]] = {}
    for ablation in experiment.config.targets.ablations:
        for label, runs in experiment.members[ablation].items():
            groups[f"{experiment.config.ablations[ablation].title or ablation}: {label}"] = runs
    known = {run for runs in groups.values() for run in runs}
    for run in experiment.target_runs():
        if run not in known and experiment.runs[run].kind == "tvts":
            groups[run] = [run]
    return groups


def _panel(axes: Axes, groups: dict[str, list[str]], records: dict[str, list[dict[str, Any]]], key: str) -> None:
    curves = {label: [_curve(records[run], key) for run in runs] for label, runs in groups.items()}
    if not any(curve for seeds in curves.values() for curve in seeds):
        say(axes, "not recorded")
        return
    for number, (label, seeds) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        style = "-" if number < len(COLOURS) else "--"
        if len(seeds) > 1:
            for curve in seeds:
                axes.plot(*_xy(curve), color=colour, linestyle=style, linewidth=0.6, alpha=0.4)
        axes.plot(*_xy(_mean(seeds)), color=colour, linestyle=style, label=label)
    axes.set_xlabel("step")
    axes.set_xlim(left=0)


def _curve(records: list[dict[str, Any]], key: str) -> Curve:
    return [(record["step"], record[key]) for record in records if record.get(key) is not None]


def _mean(curves: list[Curve]) -> Curve:
    """Mean over the curves at each step that any has."""
    at: dict[int, list[float]] = defaultdict(list)
    for curve in curves:
        for step, value in curve:
            at[step].append(value)
    return [(step, statistics.fmean(at[step])) for step in sorted(at)]


def _xy(curve: Curve) -> tuple[list[int], list[float]]:
    return [step for step, _ in curve], [value for _, value in curve]


def _chance(experiment: Experiment, groups: dict[str, list[str]]) -> float:
    """Share of transcripts that guessing puts in place, percent."""
    data = experiment.runs[next(iter(groups.values()))[0]].data
    names = data.datasets if data else []
    return max(100 / experiment.config.datasets[name].segments for name in names)
