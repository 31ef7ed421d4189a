"""The front page: in one look what was run, on what data, what came out, how it compares, what is missing.

One HTML file that needs no other and no network; its body is also the front of Snakemake's own report.
"""

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvts.config import Experiment
from tvts.files import atomic, read_json
from tvts.layout import Layout
from tvts.report import paper
from tvts.report.scores import Metric, Scores, baseline_of
from tvts.report.tables import (
    NOT_RUN,
    Cell,
    Table,
    mean_sd,
    paper_table,
    show,
)

STYLE = """
.tvts { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; max-width: 68rem; }
.tvts h1 { font-size: 1.5rem; margin: 0 0 .2rem; } .tvts h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
.tvts p { margin: .3rem 0; } .tvts .quiet { color: #666; font-size: .87rem; }
.tvts .tiles { display: flex; flex-wrap: wrap; gap: .7rem; margin: 1rem 0; }
.tvts .tile { border: 1px solid #ddd; border-radius: 6px; padding: .5rem .9rem; min-width: 8.5rem; }
.tvts .tile b { display: block; font-size: 1.3rem; } .tvts .good b { color: #00714f; } .tvts .bad b { color: #b34a00; }
.tvts .wide { overflow-x: auto; }
.tvts table { border-collapse: collapse; font-size: .87rem; margin: .4rem 0; width: auto; }
.tvts th, .tvts td { padding: .22rem .6rem; border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: bottom; }
.tvts th { font-weight: 600; border-bottom: 1.5px solid #888; } .tvts .number { text-align: right; white-space: nowrap; }
.tvts td i { color: #999; font-style: normal; }
.tvts .figures { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
.tvts figure { margin: 0; flex: 1 1 26rem; max-width: 33rem; } .tvts img { width: 100%; margin: 0; }
.tvts figcaption { color: #666; font-size: .87rem; } .tvts code { font-size: .85em; }
.max-w-lg:has(.tvts) { max-width: 68rem; }
"""
LINKED = "<p>Each number as a link to its run in MLflow: <a href='results.html'>results.html</a></p>"


def write_page(experiment: Experiment, results: Path, output: Path) -> None:
    """Write the page to `output` (.html), and beside it as .rst for `snakemake --report`.

    Everything is read from what lies under `results`; what is not there is listed as missing. Snakemake's report has the
    figures on pages of their own.
    """
    page = _Page(experiment, results)
    front = f"<style>{STYLE}</style>\n<div class='tvts'>\n{page.body()}\n</div>"
    head = "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>TVTSv2 report</title></head>"
    indented = "\n".join(f"   {line}" for line in front.splitlines())
    pages = {
        ".html": f"{head}<body style='margin:2rem'>\n{front}\n<div class='tvts'>{LINKED}{page.figures()}</div>\n</body></html>\n",
        ".rst": f"{{% raw %}}\n.. raw:: html\n\n{indented}\n\n{{% endraw %}}\n",
    }
    for suffix, text in pages.items():
        with atomic(output.with_suffix(suffix)) as temporary:
            temporary.write_text(text, encoding="utf-8")


@dataclass
class _Gap:
    """Something that is missing, and what to do."""

    what: str
    how: str


class _Page:
    def __init__(self, experiment: Experiment, results: Path) -> None:
        self.experiment, self.layout, self.scores = experiment, Layout(results), Scores(experiment, results)
        self.runs = experiment.target_runs()
        self.wanted = [(run, *pair) for run in self.runs for pair in experiment.protocols(run)]
        self.gaps = list(self._gaps())

    def body(self) -> str:
        """The five answers."""
        sections = {
            "What was run": self._run(),
            "On what data": self._data(),
            "What came out": self._results(),
            "How it compares": self._comparison(),
            "What is missing": self._missing(),
        }
        parts = [f"<h2>{title}</h2>\n{text}" for title, text in sections.items() if text]
        return "\n".join(
            [f"<h1>TVTSv2: {_text(self.experiment.config.tracking.experiment)}</h1>", self._tiles(), *parts]
        )

    # --- what was run -------------------------------------------------------------------------------------------------

    def _tiles(self) -> str:
        done = sum(key in self.scores.files for key in self.wanted)
        finished = sum(self._is_there(run) for run in self.runs)
        benchmarks = self.experiment.config.targets.benchmarks
        there = sum(not _absent(self.experiment, name) for name in benchmarks)
        tiles = {
            "encoders": (finished, len(self.runs)),
            "benchmarks with data": (there, len(benchmarks)),
            "scores": (done, len(self.wanted)),
        }
        drawn = [
            f"<div class='tile {'good' if count == total else 'bad'}'><b>{count} of {total}</b>{name}</div>"
            for name, (count, total) in tiles.items()
        ]
        gaps = len(self.gaps)
        drawn.append(f"<div class='tile {'bad' if gaps else 'good'}'><b>{gaps or 'nothing'}</b>missing</div>")
        return f"<div class='tiles'>{''.join(drawn)}</div>"

    def _is_there(self, run: str) -> bool:
        if self.experiment.runs[run].kind == "clip":
            return (Path(self.experiment.runs[run].model.clip) / "config.json").exists()
        return (self.layout.run(run) / "model" / "config.json").exists()

    def _run(self) -> str:
        lines = []
        for name in self.experiment.config.targets.ablations:
            ablation, members = self.experiment.config.ablations[name], self.experiment.members[name]
            labels = ", ".join(_text(label) for label in members)
            done = sum(self._is_there(run) for run in self.experiment.ablation_runs(name))
            seeds = f"{len(ablation.seeds)} seed{'s' if len(ablation.seeds) > 1 else ''}"
            lines.append(
                f"<p>Ablation <b>{_text(name)}</b> ({_text(ablation.title or name)}: {labels}; {seeds} each): "
                f"{done} of {len(self.experiment.ablation_runs(name))} encoders trained.</p>"
            )
        in_ablations = {
            run for name in self.experiment.config.targets.ablations for run in self.experiment.ablation_runs(name)
        }
        rows = [
            self._run_row(run)
            for run in self.runs
            if run not in in_ablations or run in self.experiment.config.targets.runs
        ]
        columns = ["run", "what it is", "starts from", "frozen text blocks", "steps", "device", "code", "finished"]
        return "\n".join([*lines, _table(Table("", columns, rows))])

    def _run_row(self, name: str) -> list[Cell]:
        run = self.experiment.runs[name]
        if run.kind != "tvts":
            what = {"clip": "CLIP, frame mean (baseline)", "official": "released checkpoint"}[run.kind]
            return [name, what, run.model.preset, "-", "-", "-", "-", "-" if self._is_there(name) else None]
        path = self.layout.run(name) / "card.json"
        card = read_json(path) if path.exists() else {}
        facts = [card.get("step"), card.get("device"), card.get("git_commit") or ("-" if card else None)]
        finished = card.get("finished", "").replace("T", " ")[:16] or None
        return [name, "trained here", run.model.preset, str(run.text.frozen_blocks), *facts, finished]

    # --- on what data -------------------------------------------------------------------------------------------------

    def _data(self) -> str:
        used = [run.data for name in self.runs if (run := self.experiment.runs[name]).kind == "tvts"]
        names = dict.fromkeys(name for data in used if data for name in data.datasets)
        lines = [self._dataset(name) for name in names]
        rows: list[list[Cell]] = []
        for name in self.experiment.config.targets.benchmarks:
            settings = self.experiment.config.benchmarks[name]
            bodies = [body for key, body in self.scores.files.items() if key[1] == name and key[0] in self.runs]
            coverage = dict.fromkeys(f"{b['coverage']['used']} of {b['coverage']['items']}" for b in bodies)
            rows.append([name, ", ".join(settings.protocols).replace("_", " "), ", ".join(coverage) or None])
        columns = ["benchmark", "protocols", "items whose video could be read"]
        return "\n".join([*lines, _table(Table("", columns, rows)) if rows else ""])

    def _dataset(self, name: str) -> str:
        path = self.layout.dataset_card(name)
        if not path.exists():
            return f"<p>Dataset <b>{_text(name)}</b>: not made yet.</p>"
        card = read_json(path)
        funnel = " → ".join(f"{_text(stage['stage'])} {stage['count']:,}" for stage in card["funnel"])
        hours = f"{card['hours']['usable']:.1f} h" if "hours" in card else ""
        return f"<p>Dataset <b>{_text(name)}</b>: {funnel}; {hours}, {card.get('words', 0):,} words.</p>"

    # --- what came out ------------------------------------------------------------------------------------------------

    def _results(self) -> str:
        if not self.scores.files:
            return "<p>No scores yet.</p>"
        drawn, shown = [], set()
        for name in self.experiment.config.targets.ablations:
            title = self.experiment.config.ablations[name].title or name
            clip = baseline_of(self.experiment, name, self.scores)
            columns = ({"CLIP": [clip]} if clip else {}) | self.experiment.members[name]
            drawn.append(f"<p>By {_text(title)}, mean ± standard deviation over seeds:</p>{self._metrics(columns)}")
            shown |= {run for runs in columns.values() for run in runs}
        named = self.experiment.config.targets.runs
        if not shown.issuperset(named):
            drawn.insert(0, self._metrics({run: [run] for run in named}))
        note = "Percent, larger is better, bold: best of the row. Subsets, intervals and all other metrics: tables of the report."
        return "\n".join([*drawn, f"<p class='quiet'>{note}</p>"])

    def _metrics(self, columns: dict[str, list[str]]) -> str:
        """Headline metrics over columns of runs; guessing beside them."""
        rows: list[list[Cell]] = []
        for metric in self.scores.headlines({run for runs in columns.values() for run in runs}, tags=False):
            chance = self.scores.chance(metric)
            values = [mean_sd(self.scores.values(runs, metric)) for runs in columns.values()]
            rows.append([metric.title, None if chance is None else f"{chance:.3g}", *values])
        return _table(Table("", ["metric", "chance", *columns], rows), best_from=2)

    def figures(self) -> str:
        """The ablations' figures, inside the page."""
        images = [
            self._image(f"{kind}_{name}", f"{kind.title()}: {self.experiment.config.ablations[name].title or name}")
            for name in self.experiment.config.targets.ablations
            for kind in ("ablation", "distortion")
        ]
        return f"<h2>Figures</h2><div class='figures'>{''.join(filter(None, images))}</div>" if any(images) else ""

    def _image(self, stem: str, caption: str) -> str | None:
        path = self.layout.report / "figures" / f"{stem}.png"
        if not path.exists():
            return None
        data = base64.b64encode(path.read_bytes()).decode()
        text = _text(caption)
        return f"<figure><img alt='{text}' src='data:image/png;base64,{data}'><figcaption>{text}</figcaption></figure>"

    # --- how it compares ----------------------------------------------------------------------------------------------

    def _comparison(self) -> str:
        return "\n".join(filter(None, [self._beside_paper(), *self._beside_clip()]))

    def _beside_paper(self) -> str:
        rows: list[Sequence[Cell]] = []
        for number in paper.TITLES:
            for row in paper_table(number, self.experiment, self.scores).rows:
                if row[1] in self.runs and row[3] in ("t2v_R@1", "top1"):
                    what = {2: "text-to-video R@1", 3: "zero-shot top-1", 4: "linear probe top-1"}[number]
                    rows.append([row[0], row[1], row[2], what, *row[4:]])
        if not rows:
            return ""
        columns = ["model", "run", "benchmark", "metric", "paper", "ours", "difference", "coverage"]
        note = "<p class='quiet'>All metrics, also with dual softmax: tables 2 to 4 of the report.</p>"
        return f"<p>Beside the paper ({_text(paper.SOURCE)}):</p>{_table(Table('', columns, rows))}{note}"

    def _beside_clip(self) -> Iterable[str]:
        for name in self.experiment.config.targets.ablations:
            clip = baseline_of(self.experiment, name, self.scores)
            members = self.experiment.members[name]
            metrics = self.scores.headlines(self.experiment.ablation_runs(name), tags=False)
            rows = [row for metric in metrics if clip and (row := self._difference(metric, clip, members))]
            if rows:
                columns = ["metric", "CLIP", *members]
                title = _text(self.experiment.config.ablations[name].title or name)
                yield f"<p>Difference to the CLIP the runs start from, by {title}:</p>{_table(Table('', columns, rows))}"

    def _difference(self, metric: Metric, clip: str, members: dict[str, list[str]]) -> list[Cell] | None:
        level = self.scores.value(clip, metric)
        if level is None:
            return None
        differences = ([value - level for value in self.scores.values(runs, metric)] for runs in members.values())
        signed = (mean_sd(found) for found in differences)
        return [metric.title, level, *(cell and (cell if cell.startswith("-") else f"+{cell}") for cell in signed)]

    # --- what is missing ----------------------------------------------------------------------------------------------

    def _gaps(self) -> Iterable[_Gap]:
        config = self.experiment.config
        absent = {name for name in config.targets.benchmarks if _absent(self.experiment, name)}
        for name in filter(absent.__contains__, config.targets.benchmarks):
            yield _Gap(f"benchmark {name}: no {_absent(self.experiment, name)}", config.benchmarks[name].obtain)
        for run in self.runs:
            if not self._is_there(run):
                kind = self.experiment.runs[run].kind
                what = {"tvts": "not trained", "clip": "no CLIP folder", "official": "no released checkpoint"}[kind]
                yield _Gap(
                    f"run {run}: {what}",
                    self.experiment.runs[run].model.obtain if kind == "clip" else f"snakemake results/runs/{run}/model",
                )
        uncaptioned = absent.issuperset(self.experiment.caption_benchmarks())
        for run, subject, protocol in self.wanted:
            blocked = subject in absent or (protocol == "distortion" and uncaptioned) or not self._is_there(run)
            if blocked or (run, subject, protocol) in self.scores.files:
                continue
            yield _Gap(
                f"score of {run} on {subject} ({protocol})",
                f"see results/logs/embed/{run} and results/logs/score/{run}",
            )

    def _missing(self) -> str:
        if not self.gaps:
            return "<p>Nothing: every score that the config asks for is there.</p>"
        rows: list[Sequence[Cell]] = [[gap.what, gap.how] for gap in self.gaps]
        return _table(Table("", ["what", "what to do"], rows))


def _absent(experiment: Experiment, name: str) -> str | None:
    """The file or folder of a benchmark that is not there."""
    settings = experiment.config.benchmarks[name]
    return next((path for path in (settings.annotations, settings.videos) if not Path(path).exists()), None)


def _table(table: Table, best_from: int | None = None) -> str:
    """A table; `best_from`: the largest number of each row, from this column on, stands out."""
    numeric = [any(_number(row[place]) is not None for row in table.rows) for place in range(len(table.columns))]
    sides = [" class='number'" if number else "" for number in numeric]
    head = "".join(f"<th{side}>{_text(column)}</th>" for column, side in zip(table.columns, sides, strict=True))
    body = []
    for row in table.rows:
        found = [_number(cell) for cell in row[best_from:]] if best_from is not None else []
        most = max((value for value in found if value is not None), default=None)
        cells = []
        for place, (cell, side) in enumerate(zip(row, sides, strict=True)):
            wins = best_from is not None and place >= best_from and most is not None and _number(cell) == most
            text = _text(NOT_RUN if cell is None else show(cell))
            cells.append(f"<td{side}>{f'<b>{text}</b>' if wins else f'<i>{text}</i>' if cell is None else text}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    rows = "\n".join(body)  # docutils refuses very long lines
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _number(cell: Cell) -> float | None:
    """The number that a cell shows: of `71.2 ± 0.8` the first; None for text."""
    try:
        return float(str(cell).split(" ±")[0])
    except ValueError:
        return None


def _text(value: Any) -> str:
    """Escaped for HTML, and for the template language that Snakemake's report reads its front page with."""
    return html.escape(str(value), quote=True).replace("{", "&#123;")
