"""Distortion over an ablation of frozen blocks in one figure: drift per text block and register, and what it costs in retrieval."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tvts.config import Experiment, UserError
from tvts.report.ablation import DASHES, draw_points, scale_to
from tvts.report.scores import Scores, baseline_of, distortion_files
from tvts.report.style import COLOURS, GREY, MARKERS, figure

REGISTERS = {"descriptive": "captions", "spoken": "speech"}
MEASURES = {"cka": "1 - linear CKA", "cosine": "1 - cosine"}
GALLERIES = {"": "within: videos of its own register", "_across": "across: videos of both registers"}

Files = Mapping[str, Sequence[dict[str, Any]]]
"""Label -> score files of its finished runs."""


def draw_distortion(experiment: Experiment, name: str, scores: Scores, output: Path) -> None:
    """Drift after each block on captions and on speech, a line per label; below, R@1 of either register over the labels.

    Raises UserError without any distortion score.
    """
    files = distortion_files(experiment, name, scores)
    if not files:
        runs = len(experiment.ablation_runs(name))
        raise UserError(
            f"ablation {name}: the distortion of none of its {runs} runs is measured yet; run `snakemake ablation_{name}`"
        )
    title = experiment.config.ablations[name].title or name
    with figure(output, 7.6, 8.4) as drawn:
        parts: Any = drawn.subfigures(2, 1, height_ratios=[2.05, 1.15])
        _drifts(parts[0], files, title)
        clip = baseline_of(experiment, name, scores)
        reference = next(
            (body for (run, _, protocol), body in scores.files.items() if (run, protocol) == (clip, "distortion")), None
        )
        _retrieval(parts[1], files, reference, title)


def _drifts(part: Figure, files: Files, title: str) -> None:
    rows: Any = part.subplots(len(MEASURES), len(REGISTERS), sharex=True, sharey="row")
    for row, (measure, measured) in zip(rows, MEASURES.items(), strict=True):
        for axes, (register, words) in zip(row, REGISTERS.items(), strict=True):
            for number, bodies in enumerate(files.values()):
                _profile(axes, [body["blocks"][register][measure] for body in bodies], number)
            axes.set_title(f"drift on {words}", loc="left")
        row[0].set_ylim(bottom=0)
        row[0].set_ylabel(measured)
    for axes in rows[-1]:
        axes.set_xlabel("text block")
    handles = [Line2D([], [], **_look(number), label=label) for number, label in enumerate(files)]
    part.legend(handles=handles, title=title, loc="outside upper center", ncols=len(handles))


def _look(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 4.5}


def _profile(axes: Axes, seeds: Sequence[Sequence[float]], number: int) -> None:
    """Mean over seeds of the drift after each block, with one standard deviation as a band."""
    blocks = range(1, len(seeds[0]) + 1)
    values = [[seed[block - 1] for seed in seeds] for block in blocks]
    means = [statistics.fmean(found) for found in values]
    spread = [statistics.stdev(found) if len(found) > 1 else 0.0 for found in values]
    low, high = ([mean + sign * sd for mean, sd in zip(means, spread, strict=True)] for sign in (-1, 1))
    axes.fill_between(blocks, low, high, color=_look(number)["color"], alpha=0.15, linewidth=0)
    axes.plot(blocks, means, **_look(number))
    every = max(1, len(blocks) // 8)
    ticks = [*list(blocks)[:-1:every], blocks[-1]]
    axes.set_xticks(ticks, [*map(str, ticks[:-1]), "output"])


def _retrieval(part: Figure, files: Files, clip: dict[str, Any] | None, title: str) -> None:
    for axes, (register, words) in zip(part.subplots(1, len(REGISTERS)), REGISTERS.items(), strict=True):
        for number, suffix in enumerate(GALLERIES):
            key = f"{register}_R@1{suffix}"
            values = {place: [body["metrics"][key] for body in bodies] for place, bodies in enumerate(files.values())}
            look = _look(number + 3)
            draw_points(axes, values, 0.1 * (number - 0.5), look["color"], look["marker"])
            if clip:
                axes.axhline(clip["metrics"][key], color=look["color"], linestyle=DASHES, linewidth=1.1, alpha=0.85)
        axes.set_title(f"{words} to video R@1", loc="left")
        axes.set_xticks(range(len(files)), list(files))
        axes.set_xlim(-0.45, len(files) - 0.55)
        axes.grid(axis="x", visible=False)
        axes.set_xlabel(title)
        scale_to(axes, next(iter(files.values()))[0]["chance"][f"{register}_R@1"])
    part.axes[0].set_ylabel("%")
    handles = [Line2D([], [], **_look(number + 3), label=text) for number, text in enumerate(GALLERIES.values())]
    handles += [Line2D([], [], color=GREY, linestyle=DASHES, label="CLIP, frame mean")] if clip else []
    part.legend(handles=handles, loc="outside upper center", ncols=len(handles))
