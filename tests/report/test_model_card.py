"""A model's card tells what is known of it: data, config, scores with coverage, what was not run; and a hub can read it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tvts.config import Experiment, UserError
from tvts.files import write_json
from tvts.model.card import write_card
from tvts.report.model_card import write_model_card

DATASET = {
    "settings": {"corpus": "toy", "text": "transcript"},
    "clips": {"train": 180, "validation": 60},
    "hours": {"clips": 0.9, "usable": 0.8},
    "funnel": [
        {"stage": "urls", "count": 250, "unit": "videos"},
        {"stage": "windows", "count": 1917, "unit": "windows"},
    ],
    "languages": {"en": 240},
    "inputs_sha256": "d" * 64,
}
TRAINING = {
    "step": 300,
    "metrics": {"val_sorting": 68.24, "val_windows": 74.0},
    "config_sha256": "a" * 64,
    "data_sha256": "b" * 64,
    "code_sha256": "c" * 64,
    "git_commit": None,
    "versions": {"torch": "2"},
    "device": "cpu",
    "finished": "2026-01-01",
}


@pytest.fixture
def trained(scored: Experiment, tmp_path: Path) -> Callable[..., str]:
    """Write the card of a run and return its text."""

    def card(run: str, training: bool = True) -> str:
        write_json(tmp_path / "datasets/toy/card.json", DATASET)
        write_json(tmp_path / "runs" / run / "model/config.json", {})
        if training:
            write_json(tmp_path / "runs" / run / "card.json", TRAINING)
        write_model_card(scored, run, tmp_path, tmp_path / "card.md")
        text = (tmp_path / "card.md").read_text(encoding="utf-8")
        assert (tmp_path / "runs" / run / "model/README.md").read_text(encoding="utf-8") == text
        return text

    return card


def test_a_card_says_data_config_and_scores(trained: Callable[..., str]) -> None:
    text = trained("base-depth-1-seed2")
    assert "300 steps on 0.8 hours of video; the lowest 1 blocks of the text encoder stayed frozen" in text
    assert "| toy | toy | transcript | 240 | 0.8 | 1,917 | en | `dddddddddddd` |" in text
    assert "| words | zero-shot retrieval | t2v_R@1 | 62.0 | 60.0 to 64.0 | 100 of 100 |" in text
    assert "| actions | zero-shot recognition | top1 | 31.0 | 29.0 to 33.0 | 100 of 100 |" in text
    assert "sorting 68.2" in text
    assert "| seed | 2 |" in text
    assert "**A miniature**: 0.8 hours" in text


def test_what_was_not_run_is_said(trained: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "scores/base-depth-0-seed0/words.retrieval.json").unlink()
    text = trained("base-depth-0-seed0")
    assert "| words | zero-shot retrieval | t2v_R@1 | not run | | |" in text
    assert "top1 | 30.0" in text


def test_videos_that_could_not_be_read_are_said(trained: Callable[..., str], add_score: Callable[..., None]) -> None:
    add_score("base", "actions", "recognition", used=97, top1=12.0)
    text = trained("base")
    assert "| 97 of 100 |" in text
    assert "Some benchmark videos could not be read" in text


def test_a_hub_reads_its_front_matter(trained: Callable[..., str]) -> None:
    data = ModelCard(trained("base-depth-all-seed1")).data.to_dict()
    assert data["library_name"] == "transformers"
    metrics = {
        (result["dataset"]["name"], metric["type"]): metric["value"]
        for result in data["model-index"][0]["results"]
        for metric in result["metrics"]
    }
    assert metrics["words", "t2v_R@1"] == 71.0
    assert metrics["toy", "sorting"] == 72.0


def test_a_card_before_any_evaluation(scored: Experiment, tmp_path: Path) -> None:
    text = write_card(tmp_path, "base", scored.runs["base"].model_dump(), TRAINING, {"toy": DATASET})
    assert "Not evaluated yet." in text
    assert "model-index" not in text


def test_weights_from_elsewhere_claim_no_training(scored: Experiment, tmp_path: Path) -> None:
    text = write_card(tmp_path, "official", scored.runs["base"].model_dump(), {}, {})
    assert "authors' release, converted" in text
    assert "learning rate" not in text


def test_unknown_runs_and_missing_models_are_told(scored: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="b17: unknown run; known: base, clip"):
        write_model_card(scored, "b17", tmp_path, tmp_path / "card.md")
    with pytest.raises(UserError, match=r"no model there; train it first: snakemake .*runs/base/card.json"):
        write_model_card(scored, "base", tmp_path, tmp_path / "card.md")
