"""Runs are data: inheritance, ablation members, and the identity of a run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tvts.config import Experiment, UserError, deep_merge, fingerprint, frozen_run, operational, read_yaml
from tvts.config.reference import SECTIONS, write_reference
from tvts.config.resolve import read_run
from tvts.config.schema import Config

ROOT = Path(__file__).parents[2]
PAPER = read_yaml([ROOT / "config.yaml"])


@pytest.fixture(scope="module")
def paper() -> Experiment:
    return Experiment.resolve(PAPER)


def test_the_papers_sizes_masks_and_freezing(paper: Experiment) -> None:
    facts = {
        name: (paper.runs[name].model.mask_ratio, paper.runs[name].text.frozen_blocks) for name in ("b32", "b16", "h14")
    }
    assert facts == {"b32": (0.0, 9), "b16": (0.5, 9), "h14": (0.7, 18)}
    assert paper.runs["h14"].model.style == "openclip"
    assert {paper.runs[name].optim.lr_new for name in facts} == {1e-4}
    assert {paper.runs[name].optim.lr_clip for name in facts} == {1e-7}


def test_a_member_equal_to_a_run_is_that_run(paper: Experiment) -> None:
    assert paper.members["freeze_depth"]["9"] == ["b16"]
    assert paper.members["text_tuning"]["frozen"] == paper.members["freeze_depth"]["all"]
    assert len(paper.target_runs()) == len(set(paper.target_runs()))


def test_an_ablation_is_three_lines() -> None:
    added = {"ablations": {"frames": {"run": "b16", "axis": "model.frames", "values": [4, 12], "seeds": [0, 1]}}}
    experiment = Experiment.resolve(deep_merge(PAPER, added))
    assert experiment.members["frames"] == {
        "4": ["b16-frames-4-seed0", "b16-frames-4-seed1"],
        "12": ["b16", "b16-frames-12-seed1"],
    }
    assert experiment.runs["b16-frames-4-seed1"].model.frames == 4
    assert experiment.runs["b16-frames-4-seed1"].seed == 1


def test_experiments_that_share_a_results_folder_share_no_runs(paper: Experiment) -> None:
    demo = Experiment.load(ROOT / "config.yaml", ROOT / "demo/config.yaml")
    assert "demo-freeze_depth-all-seed0" in demo.runs
    assert not set(demo.target_runs()) & set(paper.target_runs())


@pytest.mark.parametrize("values", [[[6, 8], [4, 6]], ["a/b"], [""], [-1]])
def test_a_label_that_cannot_be_part_of_a_path_is_refused(values: list[Any]) -> None:
    odd = {"ablations": {"odd": {"run": "b16", "axis": "optim.milestones", "values": values}}}
    with pytest.raises(
        UserError, match=r"^ablations.odd.values: '.*' cannot name a run; give values as a mapping label -> "
    ) as told:
        Experiment.resolve(deep_merge(PAPER, odd))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("section", ["corpora", "datasets", "models", "runs", "ablations", "benchmarks"])
@pytest.mark.parametrize("name", ["../x", "a b", "", "-a", "a/b"])
def test_names_that_become_paths_are_checked(section: str, name: str) -> None:
    some = next(iter(PAPER[section].values()))
    with pytest.raises(
        UserError, match="^" + re.escape(f"{section}.{name}: names are letters, digits, '-' and '_'") + "$"
    ):
        Experiment.resolve(deep_merge(PAPER, {section: {name: some}}))


def test_a_member_never_takes_the_name_of_another_run() -> None:
    twins = {
        "runs": {"b16-x": {"extends": "b16", "set": {"optim": {"eps": 1.0e-8}}}},
        "ablations": {
            "x-y": {"run": "b16", "axis": "model.frames", "values": [3]},
            "y": {"run": "b16-x", "axis": "model.frames", "values": [3]},
        },
    }
    with pytest.raises(UserError, match="a member would be called b16-x-y-3-seed0, like another run"):
        Experiment.resolve(deep_merge(PAPER, twins))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("launch", "nodes", 1),
        ("launch", "minutes", 5),
        ("data", "workers", 2),
        ("data", "cache_gb", 1.0),
        ("data", "max_corrupt_share", 0.5),
        ("train", "checkpoint_minutes", 1.0),
        ("train", "keep_checkpoints", 5),
        ("train", "log_every", 3),
        ("train", "activation_checkpointing", True),
        ("train", "compile", False),
    ],
)
def test_settings_that_change_no_result_are_not_part_of_a_runs_identity(
    paper: Experiment, section: str, key: str, value: Any
) -> None:
    changed = Experiment.resolve(deep_merge(PAPER, {"runs": {"b16": {"set": {section: {key: value}}}}}))
    assert fingerprint(changed.runs["b16"]) == fingerprint(paper.runs["b16"])
    assert (
        getattr(getattr(changed.runs["b16"], section), key)
        == value
        != getattr(getattr(paper.runs["b16"], section), key)
    )


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("optim", "eps", 1.0e-8), ("data", "crop", 0.9), ("train", "precision", "fp32"), ("train", "epochs", 3)],
)
def test_settings_that_change_the_result_are(paper: Experiment, section: str, key: str, value: Any) -> None:
    changed = Experiment.resolve(deep_merge(PAPER, {"runs": {"b16": {"set": {section: {key: value}}}}}))
    assert fingerprint(changed.runs["b16"]) != fingerprint(paper.runs["b16"])


def test_a_frozen_run_reads_back(paper: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(frozen_run(paper, "h14"), encoding="utf-8")
    assert read_run(path, operational(paper.runs["h14"])) == paper.runs["h14"]
    assert fingerprint(read_run(path)) == fingerprint(paper.runs["h14"])
    with pytest.raises(UserError, match=r"^--running: not valid JSON"):
        read_run(path, "{")
    assert list(json.loads(path.read_text())) == sorted(json.loads(path.read_text()))


def test_the_frozen_config_reads_back(paper: Experiment, tmp_path: Path) -> None:
    """JSON writes 1e-07, which YAML would read as text."""
    path = tmp_path / "config.json"
    path.write_text(paper.config.model_dump_json(), encoding="utf-8")
    assert Experiment.load(path).runs == paper.runs


def test_merging_replaces_lists_and_joins_mappings() -> None:
    assert deep_merge({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}}


def test_gpus_of_a_job_that_has_no_use_for_them_are_refused() -> None:
    for job in ("download", "dataset"):
        with pytest.raises(UserError, match=f"^resources.{job}.gpus: unknown key"):
            Experiment.resolve(deep_merge(PAPER, {"resources": {job: {"gpus": 1}}}))


def test_every_key_is_explained() -> None:
    """Sections of a kind are found wherever they stand, so one that the reference forgets is seen too."""
    definitions = Config.model_json_schema()
    sections = [definitions, *definitions["$defs"].values()]
    silent = [
        f"{s['title']}.{name}" for s in sections for name, key in s["properties"].items() if not key.get("description")
    ]
    assert silent == []
    assert {s["title"] for s in sections} <= {section.__name__ for section in SECTIONS.values()} | {"Model", "RunModel"}


def test_generated_reference_is_current(tmp_path: Path) -> None:
    write_reference(ROOT, check=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "config.md").write_text("old", encoding="utf-8")
    with pytest.raises(UserError, match="out of date"):
        write_reference(tmp_path, check=True)
