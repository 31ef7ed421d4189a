"""The front page answers what was run, on what data, what came out, how it compares and what is missing."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from tvts.config import Experiment
from tvts.files import write_json
from tvts.report.figures import draw
from tvts.report.page import write_page
from tvts.report.tables import write_tables


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Experiment], dict[str, str]]:
    """Write the page from the folder of the results; its sections as plain text, one line per paragraph or table row."""
    monkeypatch.chdir(tmp_path)

    def write(experiment: Experiment) -> dict[str, str]:
        write_page(experiment, tmp_path, tmp_path / "report/index.html")
        text = (tmp_path / "report/index.html").read_text()
        sections = re.split(r"<h2>(.*?)</h2>", text)
        plain = [re.sub(r"</(p|tr|div|figure)>", "\n", section) for section in sections]
        plain = [re.sub(r"<style>.*?</style>|<[^>]*>", " ", section, flags=re.DOTALL) for section in plain]
        plain = [unescape(re.sub(r"[ ]+", " ", section)) for section in plain]
        return {"head": plain[0], **dict(zip(plain[1::2], plain[2::2], strict=True))}

    return write


def finish(experiment: Experiment, folder: Path) -> None:
    """All that a finished workflow leaves besides scores."""
    for name in experiment.target_runs():
        write_json(folder / "runs" / name / "model/config.json", {})
        write_json(folder / "runs" / name / "card.json", {"step": 300, "device": "cpu", "git_commit": "abc123"})
    for name in ("clip/config.json", "words", "actions", "videos/x"):
        write_json(folder / name, {})
    stages = [("urls", 240), ("windows", 3000)]
    card = {
        "funnel": [{"stage": s, "count": c, "unit": s} for s, c in stages],
        "hours": {"usable": 2.25},
        "words": 10055,
    }
    write_json(folder / "datasets/toy/card.json", card)


def test_a_finished_workflow_in_one_look(
    distorted: Experiment, tmp_path: Path, make: Callable[[Experiment], dict[str, str]], add_score: Callable[..., None]
) -> None:
    finish(distorted, tmp_path)
    add_score("base", "words", "retrieval", **{"t2v_R@1": 55.5})
    add_score("base", "actions", "recognition", top1=33.0)
    add_score("base", "toy", "sorting", sorting=71.0, sorting_all=51.0)
    for kind in ("ablation", "distortion"):
        draw(kind, "depth", distorted, tmp_path, tmp_path / f"report/figures/{kind}_depth.png")
    page = make(distorted)
    assert "11 of 11 encoders" in page["head"].replace("\n", " ")
    assert "2 of 2 benchmarks with data" in page["head"].replace("\n", " ")
    assert "frozen text blocks: 0, 1, all; 3 seeds each): 9 of 9 encoders trained" in page["What was run"]
    assert "clip CLIP, frame mean (baseline)" in page["What was run"]
    assert "urls 240 → windows 3,000; 2.2 h, 10,055 words" in page["On what data"]
    assert "actions recognition 100 of 100, 99 of 100" in page["On what data"]
    assert "words text-to-video R@1 1 55.5 45.0\n" in re.sub(" *\n", "\n", page["What came out"])
    assert "words text-to-video R@1 1 45.0 51.0 ± 1.0 61.0 ± 1.0 71.0 ± 1.0" in page["What came out"]
    assert "words text-to-video R@1 45.0 +6.0 ± 1.0 +16.0 ± 1.0 +26.0 ± 1.0" in page["How it compares"]
    assert "Nothing" in page["What is missing"]
    text = (tmp_path / "report/index.html").read_text()
    assert text.count("data:image/png;base64,") == 2
    assert "<b>71.0 ± 1.0</b>" in text and "http" not in text


def test_what_is_missing_is_listed_with_what_to_do(
    scored: Experiment, tmp_path: Path, make: Callable[[Experiment], dict[str, str]]
) -> None:
    finish(scored, tmp_path)
    (tmp_path / "actions").unlink()
    (tmp_path / "runs/base/model/config.json").unlink()
    (tmp_path / "scores/clip/words.retrieval.json").unlink()
    page = make(scored)
    assert "benchmark actions: no actions generated" in page["What is missing"]
    assert "run base: not trained snakemake results/runs/base/model" in page["What is missing"]
    assert "score of clip on words (retrieval)" in page["What is missing"]
    assert "1 of 2 benchmarks with data" in page["head"].replace("\n", " ")
    assert "nothing missing" not in page["head"].replace("\n", " ")


def test_a_page_without_anything_done(
    experiment: Experiment, tmp_path: Path, make: Callable[[Experiment], dict[str, str]]
) -> None:
    write_tables(experiment, tmp_path, tmp_path / "report/tables")
    page = make(experiment)
    assert "0 of 11 encoders" in page["head"].replace("\n", " ")
    assert "No scores yet" in page["What came out"]
    assert "not made yet" in page["On what data"]
    assert "How it compares" not in page


def test_names_are_text_in_html_and_in_snakemake_s_report(tmp_path: Path, scored: Experiment) -> None:
    settings = scored.config.tracking.model_copy(update={"experiment": "<script>{{ 1 + 1 }}{% endraw %}"})
    hostile = Experiment(scored.config.model_copy(update={"tracking": settings}), scored.runs, scored.members)
    write_page(hostile, tmp_path, tmp_path / "index.html")
    assert "<script>" not in (tmp_path / "index.html").read_text()
    assert (tmp_path / "index.rst").read_text().count("{% endraw %}") == 1
