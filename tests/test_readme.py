"""What README says can be done: its configs resolve, its commands are known, its links lead somewhere."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tests.evaluate.conftest import make_videos, tvts_folder  # noqa: F401
from tests.workflow.snake import ROOT, job_counts, snakemake

from tvts.cli import app
from tvts.config import Experiment, deep_merge, read_yaml

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


CONFIGS = [(page.name, block) for page in PAGES for block in blocks(page, "yaml") if ": {" in block or ":\n" in block]
COMMANDS = [
    line.partition("#")[0].strip() for page in PAGES for block in blocks(page, "sh") for line in block.splitlines() if "tvts " in line
]  # fmt: skip


@pytest.mark.parametrize(("page", "block"), CONFIGS, ids=[page for page, _ in CONFIGS])
def test_configs_resolve(page: str, block: str) -> None:
    Experiment.resolve(deep_merge(read_yaml([ROOT / "config.yaml"]), yaml.safe_load(block)))


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("tvts ")])
def test_commands_are_known(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    if name.startswith("--") or name == "watch":
        return
    known = {option for parameter in typer.main.get_command(app).commands[name].params for option in parameter.opts}  # type: ignore[attr-defined]
    assert {argument for argument in arguments if argument.startswith("-")} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_python_of_the_readme_runs_as_written(
    tmp_path: Path,
    tvts_folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (snippet,) = blocks(PAGES[0], "python")
    model, video = re.findall(r'folder, file = "(.*?)", "(.*?)"', snippet)[0]
    shutil.copytree(tvts_folder, tmp_path / model)
    make_videos(tmp_path, [video], count=30)
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    exec(snippet, made)
    assert made["video"].shape == made["text"].shape == (1, made["model"].config.projection_dim)


def test_cleaning_asks_before_it_deletes_results(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    clean = ["make", "-f", str(ROOT / "Makefile"), "clean"]
    for answer, left in (("\n", True), ("", True), ("y\n", False)):
        run = subprocess.run(clean, cwd=tmp_path, input=answer, capture_output=True, text=True, check=False)
        assert (tmp_path / "results").exists() == left == (run.returncode != 0)


def test_own_videos_and_own_benchmark_make_a_whole_graph(tmp_path: Path) -> None:
    mine, yours = (yaml.safe_load(block) for block in blocks(PAGES[0], "yaml")[-2:])
    counts = job_counts(snakemake(tmp_path, "-n", "--quiet", "rules", overlay=mine))
    assert (counts["pretrain"], counts["download"], counts["missing"]) == (1, 1, 2)
    target = re.findall(r"results/scores/\S+json", README)[-1]
    counts = job_counts(snakemake(tmp_path, target, "-n", "--quiet", "rules", overlay=yours))
    assert counts["embed"] == counts["score"] == 1
