"""Recognition, multiple choice and linear probe on features whose answers are known."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from tvts.config import Evaluation, UserError
from tvts.evaluate.features import Features
from tvts.evaluate.linear_probe import blank, fit, score_linear_probe, split
from tvts.evaluate.multiple_choice import score_multiple_choice
from tvts.evaluate.recognition import score_recognition

CPU = torch.device("cpu")


def features(
    tensors: dict[str, Tensor], items: int, tags: list[dict[str, str]] | None = None, **about: Any
) -> Features:
    about = {"tags": tags or [{}] * items, "prompts": ["a person {}"]} | about
    return Features(Path("run/benchmark.safetensors"), {"video_row": torch.arange(items)} | tensors, about)


def test_recognition_counts_and_names_classes() -> None:
    video = torch.tensor([[1, 0, 0], [0, 1, 0], [0.9, 1, 0], [0, 0, 1.0]])
    found = features(
        {"video": video, "class_text": torch.eye(3), "label": torch.tensor([0, 1, 0, 2])},
        4, [{"set": "a"}, {"set": "b"}, {"set": "b"}, {}], classes=["run", "jump", "sit"],
    )  # fmt: skip
    result = score_recognition(found, Evaluation(), CPU)
    assert result.metrics["top1"] == 75
    assert result.metrics["top1[set=b]"] == 50
    assert result.details["per_class"] == {"run": 50, "jump": 100, "sit": 100}
    assert result.metrics["mean_class_top1"] == pytest.approx(250 / 3)
    assert "top5" not in result.metrics  # there are but three classes
    assert result.chance["top1"] == pytest.approx(100 / 3)


def test_top5_needs_more_than_five_classes() -> None:
    video = torch.arange(1.0, 11)[None].repeat(10, 1)
    classes = [str(c) for c in range(10)]
    found = features({"video": video, "class_text": torch.eye(10), "label": torch.arange(10)}, 10, classes=classes)
    metrics = score_recognition(found, Evaluation(), CPU).metrics
    assert (metrics["top1"], metrics["top5"]) == pytest.approx((10, 50))


@pytest.mark.parametrize(("ties", "top1"), [("mean", 25), ("optimistic", 100)])
def test_a_collapsed_model_is_at_chance(ties: Any, top1: float) -> None:
    found = features(
        {"video": torch.ones(8, 4), "class_text": torch.ones(4, 4), "label": torch.arange(8) % 4},
        8,
        classes=list("abcd"),
    )
    assert score_recognition(found, Evaluation(ties=ties), CPU).metrics["top1"] == pytest.approx(top1)


def test_multiple_choice_compares_a_video_with_its_own_options() -> None:
    options = torch.eye(4)
    found = features(
        {
            "video": torch.tensor([[1, 0.5, 0, 0], [1, 0.5, 0, 0], [0, 0, 0, 1]]),
            "options": options,
            "candidates": torch.tensor([[0, 2], [2, 1], [3, 0]]),
            "answer": torch.tensor([0, 1, 1]),
        },
        3,
    )
    result = score_multiple_choice(found, Evaluation(), CPU)
    # the second video is nearest to option 0, which is not among its own
    assert result.metrics["top1"] == pytest.approx(200 / 3)
    assert result.chance["top1"] == 50


def clusters(count: int, spread: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 4
    centres = torch.eye(16)[:4]
    return centres[label] + spread * torch.randn(count, 16, generator=generator) + 5, label


def probe(video: Tensor, label: Tensor, test: Tensor, test_label: Tensor, group: Tensor | None = None) -> Any:
    tensors = {"video": test, "label": test_label, "train_video": video, "train_label": label}
    tensors["train_group"] = torch.arange(len(label)) if group is None else group
    return score_linear_probe(features(tensors, len(test), classes=list("abcd")), Evaluation(), CPU)


def test_linear_probe_learns_what_is_linear() -> None:
    result = probe(*clusters(160, 0.15, 0), *clusters(200, 0.15, 1))
    assert result.metrics["top1"] > 95
    assert result.policy["held_out_top1"] > 90 and result.policy["training_items"] == 160


def test_linear_probe_finds_nothing_in_noise() -> None:
    video, label = clusters(160, 0.15, 0)
    noise = torch.randn(video.shape, generator=torch.Generator().manual_seed(2))
    test, test_label = clusters(400, 0.15, 1)
    result = probe(noise, label, torch.randn(test.shape, generator=torch.Generator().manual_seed(3)), test_label)
    assert 15 < result.metrics["top1"] < 35


def test_linear_probe_is_chosen_without_looking_at_the_test_set() -> None:
    training, (test, label) = clusters(160, 0.4, 0), clusters(200, 0.4, 1)
    honest, spoiled = probe(*training, test, label), probe(*training, test, (label + 1) % 4)
    keys = ("decay", "held_out_top1")
    assert [honest.policy[key] for key in keys] == [spoiled.policy[key] for key in keys]
    assert probe(*training, test, label).metrics == honest.metrics


@pytest.mark.parametrize("decay", [1.0, 1e-1, 1e-3])
def test_linear_probe_is_scikit_learn_s_logistic_regression(decay: float) -> None:
    video, label = clusters(120, 0.4, 0)
    video = video - video.mean(0)
    weight, _ = fit(video, label, decay, blank(16, 4, CPU))
    reference = LogisticRegression(C=1 / (decay * len(video)), tol=1e-8, max_iter=5000).fit(
        video.numpy(), label.numpy()
    )
    assert torch.allclose(weight, torch.from_numpy(reference.coef_.T).float(), atol=5e-3 * weight.abs().max())


def test_held_out_videos_come_from_every_class() -> None:
    label = torch.tensor([0] * 50 + [1] * 5 + [2] * 2 + [3])
    fitting, held = split(label, torch.arange(58))
    assert sorted([*fitting.tolist(), *held.tolist()]) == list(range(58))
    assert label[held].bincount(minlength=4).tolist() == [10, 1, 1, 0]


def test_clips_of_one_source_are_never_on_both_sides() -> None:
    generator = torch.Generator().manual_seed(5)
    label = torch.arange(400) % 8
    group = 8 * torch.randint(0, 18, (400,), generator=generator) + label  # UCF: a group belongs to one class
    film = torch.randint(0, 60, (400,), generator=generator)  # HMDB: a film may show any class
    for groups in (group, film):
        fitting, held = split(label, groups)
        assert not set(groups[fitting].tolist()) & set(groups[held].tolist())
        counts = label[held].bincount(minlength=8)
        assert counts.min() >= 1 and 0.1 < len(held) / len(label) < 0.4
        assert (label[fitting].bincount(minlength=8) >= 1).all()


def test_groups_keep_the_chosen_decay_honest() -> None:
    """Copies of a few clips, labels at random: only without groups does the held-out part look easy."""
    generator = torch.Generator().manual_seed(6)
    sources = torch.randn(40, 16, generator=generator)
    group = torch.arange(40).repeat_interleave(6)
    video = sources[group] + 0.01 * torch.randn(240, 16, generator=generator)
    label = torch.randint(0, 4, (40,), generator=generator)[group]
    test, test_label = torch.randn(40, 16, generator=generator), torch.arange(40) % 4
    leaking = probe(video, label, test, test_label).policy["held_out_top1"]
    honest = probe(video, label, test, test_label, group).policy["held_out_top1"]
    assert leaking > 60 > 45 > honest


def test_a_probe_on_one_source_is_refused() -> None:
    with pytest.raises(UserError, match="from two sources at least"):
        probe(*clusters(160, 0.15, 0), *clusters(8, 0.15, 1), torch.zeros(160, dtype=torch.long))
