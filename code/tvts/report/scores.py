"""Finished scores of an experiment, by run, subject (benchmark or dataset) and protocol; the headline metrics and
their names.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tvts.config import Experiment
from tvts.files import read_json
from tvts.layout import Layout

HEADLINES = {
    "retrieval": ("t2v_R@1", "v2t_R@1"),
    "recognition": ("top1",),
    "linear_probe": ("top1",),
    "multiple_choice": ("top1",),
    "sorting": ("sorting", "sorting_all"),
    "distortion": (),
}
"""Distortion has a figure and a table of its own."""
NAMES = {
    "t2v_R@1": "text-to-video R@1",
    "v2t_R@1": "video-to-text R@1",
    ("recognition", "top1"): "zero-shot top-1",
    ("linear_probe", "top1"): "linear probe top-1",
    ("multiple_choice", "top1"): "multiple choice top-1",
    "sorting": "transcripts in place",
    "sorting_all": "windows all in place",
}


class Metric(NamedTuple):
    """A number that runs are compared by. `tag` (`concepts=unseen`) restricts it to a subset of the queries."""

    subject: str
    protocol: str
    name: str
    tag: str | None = None

    @property
    def key(self) -> str:
        """Its name in a score file."""
        return f"{self.name}[{self.tag}]" if self.tag else self.name

    @property
    def title(self) -> str:
        """Its name for people."""
        name = NAMES.get(self.name) or NAMES.get((self.protocol, self.name), self.name)
        return f"{self.subject} {name}" + (f" ({self.tag})" if self.tag else "")


class Scores:
    """Score files under a results folder, of an experiment's runs on its benchmarks and datasets."""

    def __init__(self, experiment: Experiment, results: Path) -> None:
        layout = Layout(results)
        files = [path for run in experiment.runs for path in sorted((layout.root / "scores" / run).glob("*.json"))]
        subjects = experiment.config.benchmarks.keys() | experiment.config.datasets.keys()
        self.files: dict[tuple[str, str, str], dict[str, Any]] = {
            (body["run"], body["benchmark"], body["protocol"]): body
            for body in map(read_json, files)
            if body["benchmark"] in subjects
        }

    def runs(self) -> set[str]:
        """Runs with at least one score."""
        return {run for run, _, _ in self.files}

    def value(self, run: str, metric: Metric) -> float | None:
        """A run's number; None when it was not run."""
        body = self.files.get((run, metric.subject, metric.protocol))
        return None if body is None else body["metrics"].get(metric.key)

    def values(self, runs: Iterable[str], metric: Metric) -> list[float]:
        """The numbers of those runs that have one."""
        found = (self.value(run, metric) for run in runs)
        return [value for value in found if value is not None]

    def chance(self, metric: Metric) -> float | None:
        """What guessing scores."""
        bodies = (self.files[key] for key in self.files if key[1:] == (metric.subject, metric.protocol))
        return next((body["chance"].get(metric.name) for body in bodies), None)

    def coverage(self, run: str, subject: str, protocol: str) -> str:
        """`998/1000`: items whose video gave frames, of all; `not run` without a score."""
        body = self.files.get((run, subject, protocol))
        return f"{body['coverage']['used']}/{body['coverage']['items']}" if body else "not run"

    def headlines(self, runs: Iterable[str], tags: bool = True) -> list[Metric]:
        """Headline metrics that any of `runs` has, per subject and protocol in the order of HEADLINES, subsets after
        the whole.
        """
        return list(dict.fromkeys(self._headlines(set(runs), tags)))

    def _headlines(self, runs: set[str], tags: bool) -> Iterator[Metric]:
        keys = [key for key in self.files if key[0] in runs]
        for subject, protocol in sorted({key[1:] for key in keys}, key=lambda pair: (_place(pair[1]), pair[0])):
            found = {name for key in keys if key[1:] == (subject, protocol) for name in self.files[key]["metrics"]}
            for headline in HEADLINES[protocol]:
                if headline in found:
                    yield Metric(subject, protocol, headline)
                for name in sorted(found) if tags else ():
                    if name.startswith(f"{headline}["):
                        yield Metric(subject, protocol, headline, name[len(headline) + 1 : -1])


def baseline_of(experiment: Experiment, ablation: str, scores: Scores) -> str | None:
    """The scored CLIP run of the model size that an ablation's members share, if there is one."""
    presets = {experiment.runs[run].model.preset for run in experiment.ablation_runs(ablation)}
    fitting = (
        name
        for name, run in experiment.runs.items()
        if run.kind == "clip" and {run.model.preset} == presets and name in scores.runs()
    )
    return next(fitting, None)


def distortion_files(experiment: Experiment, ablation: str, scores: Scores) -> dict[str, list[dict[str, Any]]]:
    """Distortion scores of an ablation's finished members, by label; labels without any are left out."""
    found = {
        label: [body for (run, _, protocol), body in scores.files.items() if protocol == "distortion" and run in runs]
        for label, runs in experiment.members[ablation].items()
    }
    return {label: bodies for label, bodies in found.items() if bodies}


def _place(protocol: str) -> int:
    return list(HEADLINES).index(protocol)
