"""Figures are drawn from finished results, say what they show, and tell in one line what they lack."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from tvts.config import Experiment, UserError
from tvts.files import write_json
from tvts.report import style
from tvts.report.figures import draw


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures drawn in the test, kept open to look at."""
    figures: list[Figure] = []
    monkeypatch.setattr(style.plt, "close", figures.append)
    yield figures
    for figure in figures:
        monkeypatch.undo()
        plt.close(figure)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text")))


def check_files(png: Path) -> None:
    image = np.asarray(Image.open(png).convert("L"))
    assert image.shape[1] > 800 and image.std() > 5
    assert png.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_ablation_shows_seeds_means_baseline_and_subsets(
    scored: Experiment, tmp_path: Path, drawn: list[Figure]
) -> None:
    draw("ablation", "depth", scored, tmp_path, tmp_path / "a.png")
    check_files(tmp_path / "a.png")
    (figure,) = drawn
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title("left") for axes in panels] == [
        "words text-to-video R@1",
        "words video-to-text R@1",
        "actions zero-shot top-1",
        "toy transcripts in place",
        "toy windows all in place",
    ]
    first = panels[0]
    assert [label.get_text() for label in first.get_xticklabels()] == ["0", "1", "all"]
    means = [list(container.lines[0].get_ydata()) for container in first.containers]
    assert means[0] == [51, 61, 71]
    assert len(means) == 3  # all queries, seen, unseen
    seeds = sorted(y for dots in first.collections for _, y in getattr(dots, "get_offsets", list)() if dots.get_paths())
    assert 50.0 in seeds and 52.0 in seeds
    assert 45.0 in [line.get_ydata()[0] for line in first.lines]  # CLIP
    assert all(
        text in words(figure) for text in ("frozen text blocks", "CLIP, frame mean", "chance", "concepts: unseen")
    )


def test_ablation_without_scores_says_so(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ablation depth: none of its 9 runs has a score yet"):
        draw("ablation", "depth", experiment, tmp_path, tmp_path / "a.png")


def test_distortion_shows_drift_per_block_and_both_galleries(
    distorted: Experiment, tmp_path: Path, drawn: list[Figure]
) -> None:
    draw("distortion", "depth", distorted, tmp_path, tmp_path / "d.png")
    check_files(tmp_path / "d.png")
    (figure,) = drawn
    titles = ["drift on captions", "drift on speech"] * 2 + ["captions to video R@1", "speech to video R@1"]
    assert [axes.get_title("left") for axes in figure.axes] == titles
    captions, speech = figure.axes[:2]
    expected = ([0.3, 0.4, 0.5], [0, 0.2, 0.3], [0, 0, 0])
    for line, speech_line, drift in zip(captions.lines, speech.lines, expected, strict=True):
        assert np.allclose(line.get_ydata(), drift) and np.allclose(speech_line.get_ydata(), 2 * np.array(drift))
    assert speech.get_ylim() == captions.get_ylim() and captions.get_ylim()[0] == 0 and captions.get_ylim()[1] > 1
    assert [label.get_text() for label in figure.axes[2].get_xticklabels()] == ["1", "2", "output"]
    within, across = (list(container.lines[0].get_ydata()) for container in figure.axes[4].containers)
    assert within == [21, 31, 41] and across == [11, 21, 31]
    assert 44 in [line.get_ydata()[0] for line in figure.axes[4].lines]  # CLIP
    with pytest.raises(UserError, match="distortion of none of its 9 runs is measured yet"):
        draw("distortion", "depth", distorted, tmp_path / "nothing", tmp_path / "n.png")


def metrics(results: Path, run: str, records: list[dict[str, Any]]) -> None:
    path = results / "runs" / run / "training" / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_training_shows_losses_and_held_out_sorting(
    experiment: Experiment, tmp_path: Path, drawn: list[Figure]
) -> None:
    for i, runs in enumerate(experiment.members["depth"].values()):
        for j, run in enumerate(runs):
            steps = [
                {
                    "step": step,
                    "time": 0.0,
                    "loss": 5 - step / 50,
                    "contrastive": 3.0 - step / 100 + i / 5 + j / 20,
                    "sorting": 1.4 - step / 90,
                }
                for step in range(10, 101, 10)
            ]
            validations = [
                {"step": step, "time": 0.0, "val_sorting": 25 + step / 2 + j, "val_t2v_R@1": step / 3}
                for step in (50, 100)
            ]
            metrics(tmp_path, run, steps + validations)
    draw("training", "all", experiment, tmp_path, tmp_path / "t.png")
    check_files(tmp_path / "t.png")
    (figure,) = drawn
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles[:2] == ["contrastive loss", "sorting loss"]
    strong = [line for line in figure.axes[0].lines if line.get_label().startswith("frozen")]
    assert len(strong) == 3 and strong[0].get_ydata()[0] == pytest.approx(3 - 0.1 + 1 / 20)
    assert 50 in [line.get_ydata()[0] for line in figure.axes[2].lines]  # chance of two segments


def test_training_without_any_run_says_so(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training has left metrics yet"):
        draw("training", "all", experiment, tmp_path, tmp_path / "t.png")


def test_funnel(experiment: Experiment, tmp_path: Path, drawn: list[Figure]) -> None:
    counts = [
        ("urls", 120, "videos"),
        ("downloaded", 110, "videos"),
        ("clips", 210, "clips"),
        ("clean", 150, "clips"),
        ("windows", 3000, "windows"),
    ]
    write_json(
        tmp_path / "datasets/toy/card.json", {"funnel": [{"stage": s, "count": c, "unit": u} for s, c, u in counts]}
    )
    draw("funnel", "toy", experiment, tmp_path, tmp_path / "f.png")
    check_files(tmp_path / "f.png")
    text = words(drawn[0])
    assert "110 videos  (91.7%)" in text and "150 clips  (71.4%)" in text and "3,000 windows" in text
    with pytest.raises(UserError, match="no such dataset card"):
        draw("funnel", "other", experiment, tmp_path, tmp_path / "f.png")


def test_window_shows_frames_transcripts_and_both_orders(
    experiment: Experiment, dataset_card: Path, tmp_path: Path, drawn: list[Figure]
) -> None:
    results = dataset_card.parents[2]
    example = {
        "key": "0003_00000", "start": 1.0, "length": 2.0, "order": [1, 0], "predicted": [1, 1],
        "transcripts": ["then it gets light and so on", "now it is dark"],
    }  # fmt: skip
    path = results / "scores/base/toy.sorting.json"
    write_json(path, {"examples": [example], "run": "base"})
    try:
        draw("window", "toy", experiment, results, tmp_path / "w.png")
    finally:
        path.unlink()
    check_files(tmp_path / "w.png")
    text = words(drawn[0])
    assert "then it gets light" in text and "right" in text and "wrong" in text and "1.0-3.0 s" in text
    with pytest.raises(UserError, match="no run has sorted its windows yet"):
        draw("window", "toy", experiment, tmp_path, tmp_path / "w.png")


def test_the_same_scores_give_the_same_bytes(
    scored: Experiment, tmp_path: Path, add_score: Callable[..., None]
) -> None:
    for name in ("a", "b"):
        draw("ablation", "depth", scored, tmp_path, tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
