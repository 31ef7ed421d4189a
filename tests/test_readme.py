"""What README says can be done: its configs resolve, its commands are known, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
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


def test_own_videos_and_own_benchmark_make_a_whole_graph(tmp_path: Path) -> None:
    mine, yours = (yaml.safe_load(block) for block in blocks(PAGES[0], "yaml")[-2:])
    counts = job_counts(snakemake(tmp_path, "-n", "--quiet", "rules", overlay=mine))
    assert (counts["pretrain"], counts["download"], counts["missing"]) == (1, 1, 2)
    target = re.findall(r"results/scores/\S+json", README)[-1]
    counts = job_counts(snakemake(tmp_path, target, "-n", "--quiet", "rules", overlay=yours))
    assert counts["embed"] == counts["score"] == 1
