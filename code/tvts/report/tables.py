"""Tables from finished scores, as Markdown, CSV and LaTeX: all runs, each ablation over its seeds, ours beside the
paper's.
"""

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvts.config import Experiment
from tvts.files import atomic
from tvts.layout import Layout
from tvts.report import paper
from tvts.report.costs import Cost, costs
from tvts.report.scores import Metric, Scores, baseline_of, distortion_files

Cell = str | int | float | None
"""A number is shown with one decimal; None was not run."""

NOT_RUN = "not run"
DISTORTION = {
    "descriptive_cka_drift": ("1 - CKA, captions", 3),
    "spoken_cka_drift": ("1 - CKA, speech", 3),
    "descriptive_cosine_drift": ("1 - cosine, captions", 3),
    "spoken_cosine_drift": ("1 - cosine, speech", 3),
    "descriptive_R@1": ("captions R@1", 1),
    "descriptive_R@1_across": ("captions R@1 across", 1),
    "spoken_R@1": ("speech R@1", 1),
    "spoken_R@1_across": ("speech R@1 across", 1),
}
"""Metric -> column and digits."""
LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"} | {"±": r"$\pm$"}
)


@dataclass(frozen=True)
class Table:
    """Rows under columns, with a title and a note on how to read them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


def write_tables(experiment: Experiment, results: Path, output: Path) -> None:
    """Write all tables to the folder `output`.

    `results` (every run by headline metric), `scores` (every metric of every score), `costs` (per stage), `ablation_{name}` (label by
    metric, mean ± standard deviation over seeds) of the target ablations, `distortion_{name}` of those over frozen blocks, and, when
    the paper's runs are among the targets, `paper_table{2,3,4}` (paper | ours | difference | coverage). What was not run
    is said, never shown as zero.
    """
    scores = Scores(experiment, results)
    tables = {"results": results_table(experiment, scores), "scores": scores_table(scores)}
    tables["costs"] = costs_table(costs(experiment, Layout(results)))
    tables |= {
        f"ablation_{name}": ablation_table(experiment, name, scores) for name in experiment.config.targets.ablations
    }
    tables |= {
        f"distortion_{name}": distortion_table(experiment, name, scores)
        for name in experiment.config.targets.ablations
        if experiment.distortion_runs(name)
    }
    if paper.concerns(experiment):
        tables |= {f"paper_table{number}": paper_table(number, experiment, scores) for number in paper.TITLES}
    for name, table in tables.items():
        write(table, output / name)


def results_table(experiment: Experiment, scores: Scores) -> Table:
    """Every target or scored run by headline metric."""
    runs = list(dict.fromkeys([*experiment.target_runs(), *(run for run in experiment.runs if run in scores.runs())]))
    metrics = scores.headlines(runs)
    rows = [[run, *(scores.value(run, metric) for metric in metrics)] for run in runs]
    return Table("Results", ["run", *(metric.title for metric in metrics)], rows, "Percent; higher is better.")


def scores_table(scores: Scores) -> Table:
    """Every metric of every score, one per row, with its 95 % interval, chance level and coverage."""
    rows: list[list[Cell]] = []
    for (run, subject, protocol), body in scores.files.items():
        for metric, value in body["metrics"].items():
            low, high = body["intervals"].get(metric, (None, None))
            coverage = scores.coverage(run, subject, protocol)
            rows.append([run, subject, protocol, metric, value, low, high, body["chance"].get(metric), coverage])
    columns = ["run", "subject", "protocol", "metric", "value", "low", "high", "chance", "coverage"]
    return Table("All scores", columns, rows, "low, high: 95 % bootstrap interval over the items of the benchmark.")


def ablation_table(experiment: Experiment, name: str, scores: Scores) -> Table:
    """Label by headline metric: mean ± sample standard deviation over seeds, and how many runs."""
    ablation, members = experiment.config.ablations[name], experiment.members[name]
    metrics = scores.headlines(experiment.ablation_runs(name))
    rows: list[list[Cell]] = []
    for label, runs in members.items():
        finished = sum(run in scores.runs() for run in runs)
        rows.append([label, f"{finished}/{len(runs)}", *(mean_sd(scores.values(runs, metric)) for metric in metrics)])
    baseline = baseline_of(experiment, name, scores)
    if baseline:
        rows.append(["CLIP", "1/1", *(mean_sd(scores.values([baseline], metric)) for metric in metrics)])
    title = ablation.title or name
    note = (
        "Percent. Mean ± standard deviation over seeds. CLIP: the model the runs start from, frame features averaged."
    )
    return Table(f"Ablation: {title}", [title, "runs", *(metric.title for metric in metrics)], rows, note)


def distortion_table(experiment: Experiment, name: str, scores: Scores) -> Table:
    """Label by drift at the text tower's output and retrieval of either register, mean ± standard deviation over seeds."""
    files = distortion_files(experiment, name, scores)
    rows: list[list[Cell]] = []
    for label, runs in experiment.members[name].items():
        bodies = files.get(label, [])
        values = (mean_sd([body["metrics"][key] for body in bodies], digits) for key, (_, digits) in DISTORTION.items())
        rows.append([label, f"{len(bodies)}/{len(runs)}", *values])
    title = experiment.config.ablations[name].title or name
    note = (
        "Drift of the text output from the initial encoder, 0 = unmoved. R@1 in percent, among the videos of the query's "
        "register; across: among those of both. Mean ± standard deviation over seeds."
    )
    return Table(f"Distortion: {title}", [title, "runs", *(text for text, _ in DISTORTION.values())], rows, note)


def paper_table(number: int, experiment: Experiment, scores: Scores) -> Table:
    """The paper's table beside ours, and beside released checkpoints that are among the targets or scored."""
    rows: list[list[Cell]] = []
    for row in paper.rows():
        for run in _standing_for(row, experiment, scores) if row.table == number else ():
            ours = scores.value(run, Metric(row.benchmark, row.protocol, row.metric))
            difference = None if ours is None else f"{ours - row.value:+.1f}"
            coverage = scores.coverage(run, row.benchmark, row.protocol)
            rows.append([row.model, run, row.benchmark, row.metric, row.value, ours, difference, coverage])
    columns = ["model", "run", "benchmark", "metric", "paper", "ours", "difference", "coverage"]
    note = f"Paper: {paper.SOURCE}. Ours: the run of that name. Coverage: items whose video could be read."
    return Table(f"Table {number} of the paper: {paper.TITLES[number]}", columns, rows, note)


def costs_table(found: dict[str, Cost]) -> Table:
    """One row per stage that has run."""
    rows: list[list[Cell]] = [
        [
            stage,
            cost.jobs,
            cost.retries,
            *(f"{hours:.3f}" for hours in (cost.core_hours, cost.busy_core_hours, cost.gpu_hours, cost.longest_hours)),
            f"{cost.bytes / 1e9:.3f}",
        ]
        for stage, cost in found.items()
    ]
    columns = ["stage", "jobs", "retries", "core-hours", "busy core-hours", "GPU-hours", "longest job (h)", "GB"]
    note = (
        "Core-hours and GPU-hours: reserved x wall time of the jobs that finished; for pretrain of every attempt. "
        "Busy: CPU time of the jobs that finished. Retries: attempts beyond a job's first. GB: size of what the stage left."
    )
    return Table("Costs", columns, rows, note)


def _standing_for(row: paper.Row, experiment: Experiment, scores: Scores) -> list[str]:
    """Our run for a row of the paper, and the checkpoints that its authors released for it."""
    shown = {*experiment.target_runs(), *scores.runs()}
    released = (name for name, run in experiment.runs.items() if run.kind == "official" and run.model.preset == row.run)
    return [row.run, *(name for name in released if name in shown)]


def mean_sd(values: Sequence[float], digits: int = 1) -> str | None:
    """`71.2 ± 0.8`; without ± for a single value, None for none."""
    if not values:
        return None
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def write(table: Table, path: Path) -> None:
    """Write `path`.md, .csv (numbers unrounded) and .tex."""
    with atomic(path.with_suffix(".csv")) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows([NOT_RUN if cell is None else cell for cell in row] for row in table.rows)
    for suffix, render in ((".md", markdown), (".tex", latex)):
        with atomic(path.with_suffix(suffix)) as temporary:
            temporary.write_text(render(table), encoding="utf-8")


def markdown(table: Table) -> str:
    """A pipe table under its title."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join(" --- " if place == 0 else " ---: " for place in range(len(table.columns))) + "|"
    body = [line([show(cell) for cell in row]) for row in table.rows]
    return "\n".join([f"### {table.title}", "", line(table.columns), rule, *body, "", table.note]) + "\n"


def latex(table: Table) -> str:
    """A booktabs table environment."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.translate(LATEX) for cell in cells) + r" \\"

    body = [line([show(cell) for cell in row]) for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{table.title.translate(LATEX)}. {table.note.translate(LATEX)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            line(table.columns),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    ) + "\n"  # fmt: skip


def show(cell: Cell) -> str:
    """A cell as people read it."""
    if cell is None:
        return NOT_RUN
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)
