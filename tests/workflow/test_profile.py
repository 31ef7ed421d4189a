"""The SLURM profile: what it must not do whatever a site changes in it. That it works: tests/slurm."""

import re
from typing import Any

import pytest
import yaml
from tests.workflow.snake import ROOT


@pytest.fixture(scope="module")
def profile() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "slurm/config.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rules() -> dict[str, str]:
    """Name of each rule -> its text."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*ROOT.glob("rules/*.smk"), ROOT / "demo/demo.smk"])
    return {rule[1]: rule[2] for rule in re.finditer(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", text, re.M | re.S)}


def test_rules_that_ask_for_gpus_never_share_a_job(profile: dict[str, Any], rules: dict[str, str]) -> None:
    grouped = {entry.split("=")[0] for entry in profile["groups"]}
    on_gpus = {name for name, text in rules.items() if re.search(r"^\s+(gpu|gres)=", text, re.M)}
    assert on_gpus == {"transcribe", "embed", "score", "pretrain"}
    assert grouped and grouped <= rules.keys() - on_gpus


def test_groups_are_capped(profile: dict[str, Any]) -> None:
    assert {entry.split("=")[1] for entry in profile["groups"]} == {
        entry.split("=")[0] for entry in profile["group-components"]
    }
    assert profile["resources"] == ["at_once=4"]
    assert profile["set-resource-scopes"] == ["at_once=local"], "within a job, not over the whole workflow"
    assert profile["set-resources"] == {entry.split("=")[0]: {"at_once": 1} for entry in profile["groups"]}
    assert "cores" not in profile, "it would cap the threads of every job"


def test_limits_given_on_the_command_line_keep_the_cap_of_groups() -> None:
    """`--resources` replaces the profile's whole list."""
    pages = [path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]]
    given = [limits for page in pages for limits in re.findall(r"--resources ([^`\n]*=\d+)", page)]
    assert len(given) >= 2
    assert all("at_once=4" in limits for limits in given)


def test_retries_stand_in_the_profile_alone(profile: dict[str, Any], rules: dict[str, str]) -> None:
    assert profile["retries"] == 2
    assert not [name for name, text in rules.items() if re.search(r"^\s+retries:", text, re.M)]


def test_jobs_come_back_after_a_lost_node(profile: dict[str, Any]) -> None:
    assert profile["slurm-requeue"] is True


def test_the_trainer_is_started_by_srun(rules: dict[str, str]) -> None:
    command = rules["pretrain"].partition("shell:")[2]
    assert " start=${{SLURM_JOB_ID:+srun " in command and " exec ${{start:-" in command
    assert "tee" not in command, "a pipe would keep signals from the trainer"


@pytest.mark.parametrize("rule", ["plan", "annotations"])
def test_whole_lists_are_read_within_their_own_limits(rules: dict[str, str], rule: str) -> None:
    """Six million annotations take 80 minutes; the profile gives an hour to rules that ask for nothing."""
    for resource in ("threads", "mem_mb", "runtime"):
        assert f"EXPERIMENT.config.resources.{rule}.{resource}" in rules[rule]
