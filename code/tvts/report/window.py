"""One held-out window as the sorter saw it: frames in true order, transcripts as shuffled, where each belongs and
where it was put.
"""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from tvts.config import Experiment, UserError
from tvts.corpus.media.read import Reader
from tvts.corpus.windows import segments
from tvts.files import read_json
from tvts.layout import Layout
from tvts.report.style import COLOURS, GREY, figure
from tvts.train.data import Clips, frame_numbers
from tvts.train.rows import Source, read_split
from tvts.train.stage import source

FRAMES = 3
"""Shown per segment."""
WIDTH = 7.6
"""Inches."""
TEXT_WIDTH = 84
"""Characters per line of a transcript."""


def draw_window(experiment: Experiment, dataset: str, layout: Layout, output: Path) -> None:
    """Draw the first stored example of the first target run that sorted `dataset`. Raises UserError when none has."""
    run, example = _example(experiment, dataset, layout)
    found = source(layout.dataset_card(dataset))
    spans = segments((example["start"], example["length"]), found.settings)
    frames = _frames(found, example["key"], spans, experiment.config.media.reader)
    lines = [textwrap.wrap(text, TEXT_WIDTH) for text in example["transcripts"]]
    heights = [max(1, len(wrapped)) for wrapped in lines]
    height, width = frames[0].shape[1:3]
    above = 0.75 + WIDTH / (FRAMES * len(spans)) * height / width
    below = 0.35 + 0.19 * sum(heights) + 0.12 * len(heights)
    with figure(output, WIDTH, above + below) as drawn:
        parts: Any = drawn.subfigures(2, 1, height_ratios=[above, below])
        for number, (axes, span) in enumerate(zip(parts[0].subplots(1, len(spans)), spans, strict=True)):
            _segment(axes, frames[number], number, span)
        _transcripts(parts[1].subplots(), example, lines, heights)
        parts[0].suptitle(f"{run} on {dataset}, clip {example['key']}", fontsize=9, x=0.01, ha="left", color=GREY)


def _example(experiment: Experiment, dataset: str, layout: Layout) -> tuple[str, dict[str, Any]]:
    for run in experiment.target_runs():
        path = layout.score(run, dataset, "sorting")
        if path.exists():
            return run, read_json(path)["examples"][0]
    raise UserError(f"dataset {dataset}: no run has sorted its windows yet; run `snakemake`")


def _frames(found: Source, key: str, spans: list[tuple[float, float]], reader: Reader) -> list[np.ndarray]:
    """uint8 [FRAMES, H, W, 3] per segment."""
    row = next(row for row in read_split(found, "validation") if row["key"] == key)
    clips = Clips(found.clips, reader)
    middles = (np.arange(FRAMES) + 0.5) / FRAMES
    return [clips.frames(row, frame_numbers(begin + middles * (end - begin), row)) for begin, end in spans]


def _segment(axes: Axes, frames: np.ndarray, number: int, span: tuple[float, float]) -> None:
    axes.imshow(np.concatenate(list(frames), axis=1), interpolation="bilinear")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=COLOURS[number % len(COLOURS)], linewidth=2.2)
    axes.set_title(f"segment {number + 1}", color=COLOURS[number % len(COLOURS)], fontweight="bold")
    axes.set_xlabel(f"{span[0]:.1f}-{span[1]:.1f} s", fontsize=8)


def _transcripts(axes: Axes, example: dict[str, Any], lines: list[list[str]], heights: list[int]) -> None:
    """A row per transcript, in the order shown to the model."""
    axes.set_axis_off()
    total = sum(heights) + 0.63 * len(heights) + 1
    axes.set_xlim(0, 1)
    axes.set_ylim(total, 0)
    for x, head, side in (
        (0, "transcripts, as shuffled", "left"),
        (0.80, "belongs to", "center"),
        (0.935, "put at", "center"),
    ):
        axes.text(x, 0.4, head, ha=side, va="center", fontsize=8.5, color=GREY)
    y = 1.1
    for wrapped, height, true, put in zip(lines, heights, example["order"], example["predicted"], strict=True):
        middle = y + height / 2
        axes.text(0, middle, "\n".join(wrapped) or "(no words)", va="center", fontsize=8.5, linespacing=1.15)
        _badge(axes, 0.80, middle, true, "")
        _badge(axes, 0.935, middle, put, "  right" if true == put else "  wrong")
        y += height + 0.63


def _badge(axes: Axes, x: float, y: float, position: int, verdict: str) -> None:
    axes.text(
        x, y, f" {position + 1} ", ha="center", va="center", fontsize=8.5, color="white", fontweight="bold",
        bbox={"boxstyle": "round,pad=0.25", "facecolor": COLOURS[position % len(COLOURS)], "edgecolor": "none"},
    )  # fmt: skip
    if verdict:
        axes.text(x + 0.018, y, verdict, va="center", fontsize=8, color=GREY)
