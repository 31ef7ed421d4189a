"""The results as a page in which each number leads to its run in MLflow."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvts.config import Experiment
from tvts.files import atomic, read_json
from tvts.report.scores import Scores
from tvts.report.tables import NOT_RUN, show

LOCAL = "http://127.0.0.1:5000"
"""Where `make mlflow` serves a store that is a file."""
VIEW = "workflowType=machine_learning"
"""MLflow's pages for trainings, not for language-model applications."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem }
h1 { font-size: 1.3rem } p { color: #666; max-width: 50rem } div { overflow-x: auto } table { border-collapse: collapse }
th, td { padding: .35rem .7rem; border-bottom: 1px solid #e6e6e6; text-align: right } th { vertical-align: bottom; max-width: 8rem }
th:first-child, td:first-child { text-align: left; white-space: nowrap } a { color: #0072B2; text-decoration: none }
a:hover { text-decoration: underline } td.none { color: #999 }
"""


class Links:
    """Addresses of runs in the tracking UI, from what `tvts track` wrote (results/mlflow.json)."""

    def __init__(self, tracked: Path, uri: str | None) -> None:
        held = read_json(tracked)
        server = uri.rstrip("/") if uri and uri.startswith("http") else LOCAL
        self.experiment = f"{server}/#/experiments/{held['experiment_id']}"
        self.runs: dict[str, str] = held["links"]

    def __call__(self, *name: str) -> str | None:
        """Address of a run's training (`run`), or of one score of it (`run`, `subject`, `protocol`); None if it is not tracked."""
        found = self.runs.get("/".join(name))
        return found and f"{self.experiment}/runs/{found}?{VIEW}"


def runs_address(held: Mapping[str, Any]) -> str:
    """The table of all runs in the UI of a local store, from what `tvts track` returns."""
    return f"{LOCAL}/#/experiments/{held['experiment_id']}/runs?{VIEW}"


def write_linked(experiment: Experiment, results: Path, tracked: Path, output: Path) -> None:
    """Write the page: a row per target run, its headline metrics as columns, coverage where it is not whole."""
    links, scores = Links(tracked, experiment.config.tracking.uri), Scores(experiment, results)
    runs = experiment.target_runs()
    metrics = [metric for metric in scores.headlines(runs) if metric.tag is None]
    rows = []
    for run in runs:
        cells = [f"<td>{_link(links(run), run)}</td>"]
        for metric in metrics:
            value = scores.value(run, metric)
            shown = _link(links(run, metric.subject, metric.protocol), show(value))
            cells.append(f'<td class="none">{NOT_RUN}</td>' if value is None else f"<td>{shown}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in ("run", *(metric.title for metric in metrics)))
    store = _link(f"{links.experiment}/runs?{VIEW}", "MLflow")
    name = html.escape(experiment.config.tracking.experiment)
    with atomic(output) as temporary:
        temporary.write_text(
            f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Results: {name}</title><style>{STYLE}</style></head>
<body><h1>Results: {name}</h1>
<p>Percent. A number leads to its evaluation in {store}, a run's name to its training; <code>make mlflow</code> starts the
server they point to.</p>
<div><table><thead><tr>{heads}</tr></thead><tbody>
{chr(10).join(rows)}
</tbody></table></div></body></html>
""",
            encoding="utf-8",
        )


def _link(address: str | None, text: str) -> str:
    shown = html.escape(text)
    return f'<a href="{html.escape(address)}" target="_blank">{shown}</a>' if address else shown
