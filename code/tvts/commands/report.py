"""`tvts tables` to `tvts follow`: what came out, on pages and in MLflow."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tvts.commands.options import Output, ReportConfig, Results, RunConfig, Settings

app = typer.Typer()


@app.command()
def tables(
    config: ReportConfig,
    output: Annotated[Path, typer.Option(help="Folder to write the tables to.")],
    results: Results = Path("results"),
) -> None:
    """Write the result tables from finished scores: ours beside the paper's.

    Example: tvts tables --config results/report/config.json --output tables/
    """
    from tvts.config import Experiment
    from tvts.report.tables import write_tables

    write_tables(Experiment.load(config), results, output)


@app.command()
def page(
    config: ReportConfig,
    output: Annotated[Path, typer.Option(help="HTML to write; beside it an .rst for Snakemake's report.")],
    results: Results = Path("results"),
) -> None:
    """Write the report's front page: what was run, on what data, what came out, how it compares, what is missing.

    Example: tvts page --config results/report/config.json --output results/report/index.html
    """
    from tvts.config import Experiment
    from tvts.report.page import write_page

    write_page(Experiment.load(config), results, output)


@app.command()
def figure(
    kind: Annotated[
        Literal["ablation", "distortion", "training", "funnel", "window"], typer.Argument(help="What to draw.")
    ],
    name: Annotated[str, typer.Argument(help="Ablation or dataset.")],
    config: ReportConfig,
    output: Annotated[Path, typer.Option(help="PNG to write; a PDF is written beside it.")],
    results: Results = Path("results"),
) -> None:
    """Draw a figure from finished results.

    Example: tvts figure ablation freeze_depth --config results/report/config.json --output figure.png
    """
    from tvts.config import Experiment
    from tvts.report import figures

    figures.draw(kind, name, Experiment.load(config), results, output)


@app.command()
def model_card(
    run: Annotated[str, typer.Argument(help="Name of a run.")],
    config: ReportConfig,
    output: Output,
    results: Results = Path("results"),
) -> None:
    """Write a finished run's model card: README.md in its model folder, ready for a model hub, and the same text to a file.

    Example: tvts model-card demo --config results/report/config.json --output card.md
    """
    from tvts.config import Experiment
    from tvts.report.model_card import write_model_card

    write_model_card(Experiment.load(config), run, results, output)


@app.command()
def results_page(
    config: ReportConfig,
    tracked: Annotated[Path, typer.Option(help="What `tvts track --output` wrote.")],
    output: Output,
    results: Results = Path("results"),
) -> None:
    """Write the results as a page in which each number leads to its run in MLflow.

    Example: tvts results-page --config results/report/config.json --tracked results/mlflow.json --output results.html
    """
    from tvts.config import Experiment
    from tvts.report.linked import write_linked

    write_linked(Experiment.load(config), results, tracked, output)


@app.command()
def track(
    config: Annotated[Path, typer.Option(help="results/report/config.json, or config.yaml")],
    results: Results = Path("results"),
    output: Annotated[Path | None, typer.Option(help="JSON to write with what the store holds.")] = None,
) -> None:
    """Import trainings, scores and figures into MLflow. Repeating it adds nothing twice.

    Example: tvts track --config results/report/config.json
    """
    from tvts.config import Experiment
    from tvts.files import write_json
    from tvts.report.linked import runs_address
    from tvts.tracking import track as import_results

    held = import_results(Experiment.load(config), results)
    print(f"{held['runs']} runs; with `make mlflow`: {runs_address(held)}")
    if output:
        write_json(output, held)


@app.command()
def follow(
    config: RunConfig,
    dataset: Annotated[list[Path], typer.Option(help="Card of each dataset.")],
    metrics: Annotated[Path, typer.Option(help="metrics.jsonl of the training.")],
    tracking: Settings,
) -> None:
    """Send a running training's metrics to an MLflow server, until standard input is closed. The trainer starts this by itself.

    Example: tvts follow results/runs/demo/config.json --dataset card.json --metrics results/runs/demo/training/metrics.jsonl
    --tracking '{"uri": "http://10.0.0.1:5000"}'
    """
    from tvts.config import read_settings
    from tvts.config.schema import Tracking
    from tvts.live import follow as follow_metrics

    follow_metrics(config, dataset, metrics, read_settings(Tracking, tracking))
