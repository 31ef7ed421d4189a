"""The results page: every number leads to its run in MLflow, what was not run leads nowhere."""

import re
from pathlib import Path

from tests.report.conftest import CONFIG

from tvts.config import Experiment, deep_merge
from tvts.files import write_json
from tvts.report.linked import Links, write_linked


def track(tmp_path: Path, **links: str) -> Path:
    write_json(tmp_path / "mlflow.json", {"experiment": "e", "experiment_id": "7", "runs": len(links), "links": links})
    return tmp_path / "mlflow.json"


def test_numbers_lead_to_scores_and_names_to_trainings(scored: Experiment, tmp_path: Path) -> None:
    tracked = track(tmp_path, **{"clip": "c0", "clip/words/retrieval": "c1"})
    write_linked(scored, tmp_path, tracked, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith("<tr><td>") and ">clip<" in line)
    assert re.findall(r'href="([^"]+)"[^>]*>([^<]+)<', row) == [
        ("http://127.0.0.1:5000/#/experiments/7/runs/c0?workflowType=machine_learning", "clip"),
        ("http://127.0.0.1:5000/#/experiments/7/runs/c1?workflowType=machine_learning", "45.0"),
        ("http://127.0.0.1:5000/#/experiments/7/runs/c1?workflowType=machine_learning", "41.0"),
    ]
    assert '<td class="none">not run</td>' in row
    assert "<td>12.0</td>" in row, "a number that is not tracked stays a number"
    assert page.count("<tr>") == 1 + len(scored.target_runs())


def test_a_tracking_server_is_linked_where_it_is(tmp_path: Path) -> None:
    links = Links(track(tmp_path, base="b0"), "https://mlflow.example.org/")
    assert str(links("base")).startswith("https://mlflow.example.org/#/experiments/7/runs/b0")
    assert links("base", "words", "retrieval") is None
    assert str(Links(tmp_path / "mlflow.json", "sqlite:///x.db")("base")).startswith("http://127.0.0.1:5000/")


def test_names_are_escaped(scored: Experiment, tmp_path: Path) -> None:
    hostile = Experiment.resolve(deep_merge(CONFIG, {"tracking": {"experiment": "<script>alert(1)</script>"}}))
    write_linked(hostile, tmp_path, track(tmp_path), tmp_path / "page.html")
    assert "<script>" not in (tmp_path / "page.html").read_text(encoding="utf-8")
