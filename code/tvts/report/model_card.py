"""A finished run's model card: its config, data and scores gathered, written beside the weights and as a file of its own."""

from pathlib import Path

from tvts.config import Experiment, UserError
from tvts.files import atomic, read_json
from tvts.layout import Layout
from tvts.model.card import Score, write_card
from tvts.report.scores import HEADLINES, Scores


def write_model_card(experiment: Experiment, run: str, results: Path, output: Path) -> None:
    """Write the card of `run` to its model folder and to `output`. Raises UserError when there is no such run or model."""
    layout = Layout(results)
    if run not in experiment.runs:
        raise UserError(f"{run}: unknown run; known: {', '.join(experiment.runs)}")
    folder = layout.run(run) / "model"
    if not (folder / "config.json").exists():
        raise UserError(f"{folder}: no model there; train it first: snakemake {layout.run(run)}/card.json")
    settings, card = experiment.runs[run], layout.run(run) / "card.json"
    text = write_card(
        folder,
        run,
        settings.model_dump(),
        read_json(card) if card.exists() else {},
        {name: read_json(layout.dataset_card(name)) for name in (settings.data.datasets if settings.data else [])},
        gathered(experiment, run, Scores(experiment, results)),
    )
    with atomic(output) as temporary:
        temporary.write_text(text, encoding="utf-8")


def gathered(experiment: Experiment, run: str, scores: Scores) -> list[Score]:
    """The headline metrics of every protocol the run is to be scored under, those that were not run included."""
    found = []
    for subject, protocol in experiment.protocols(run):
        body = scores.files.get((run, subject, protocol))
        for metric in HEADLINES[protocol]:
            if body is None:
                found.append(Score(subject, protocol, metric))
                continue
            low, high = body["intervals"].get(metric, (None, None))
            coverage = body["coverage"]
            found.append(
                Score(
                    subject, protocol, metric, body["metrics"][metric], low, high, coverage["used"], coverage["items"]
                )
            )
    return found
