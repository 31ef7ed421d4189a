"""Figures from finished results; `draw` is what the command line calls."""

from pathlib import Path
from typing import Literal

from tvts.config import Experiment, UserError
from tvts.layout import Layout
from tvts.report.ablation import draw_ablation
from tvts.report.distortion import draw_distortion
from tvts.report.funnel import draw_funnel
from tvts.report.scores import Scores
from tvts.report.training import draw_training
from tvts.report.window import draw_window

Kind = Literal["ablation", "distortion", "training", "funnel", "window"]


def draw(kind: Kind, name: str, experiment: Experiment, results: Path, output: Path) -> None:
    """Draw a figure to `output` (PNG, a PDF beside it). `name`: of the ablation or dataset; `training` shows all
    trained runs.

    Raises UserError when what it needs is not there.
    """
    layout = Layout(results)
    if kind == "ablation" and name not in experiment.members:
        raise UserError(f"{name}: unknown ablation; known: {', '.join(experiment.members) or 'none'}")
    if kind == "ablation":
        draw_ablation(experiment, name, Scores(experiment, results), output)
    elif kind == "distortion":
        draw_distortion(experiment, name, Scores(experiment, results), output)
    elif kind == "training":
        draw_training(experiment, layout, output)
    elif kind == "funnel":
        draw_funnel(layout.dataset_card(name), output)
    else:
        draw_window(experiment, name, layout, output)
