"""Ranks and recalls against brute force written from the protocol (section 1.7, 1.8), ties and constant matrices included."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tvts.config import Evaluation
from tvts.evaluate import retrieval
from tvts.evaluate.features import Features
from tvts.evaluate.ranks import interval, rank
from tvts.evaluate.retrieval import RULES, retrieval_ranks, right_pairs, score_retrieval, summary


def official_text_to_video(scores: Tensor) -> list[float]:
    """Rank from 0 of the diagonal, the best of its tie."""
    return [float(sum(value > row[i] for value in row)) for i, row in enumerate(scores.tolist())]


def official_video_to_text(scores: Tensor) -> list[float]:
    """Rank from 0 of the diagonal, the mean of its tie."""
    ranks = []
    for i, column in enumerate(scores.T.tolist()):
        places = [place for place, value in enumerate(sorted(column, reverse=True)) if value == column[i]]
        ranks.append(sum(places) / len(places))
    return ranks


def official_summary(ranks: list[float]) -> dict[str, float]:
    recall = {k: 100 * sum(rank < k for rank in ranks) / len(ranks) for k in (1, 5, 10, 50)}
    ordered = sorted(ranks)
    median = (ordered[(len(ranks) - 1) // 2] + ordered[len(ranks) // 2]) / 2
    return {f"R@{k}": value for k, value in recall.items()} | {
        "GeoR": math.prod(recall[k] for k in (1, 5, 10)) ** (1 / 3),
        "MedR": median + 1,
        "MeanR": sum(ranks) / len(ranks) + 1,
    }


def matrices() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(60, 60, generator=generator)
    return {
        "random": random,
        "coarse": (random * 8).round(),
        "coarse and right": (random * 3).round() + torch.eye(60),
        "constant": torch.ones(60, 60),
        "perfect": torch.eye(60),
        "even size": torch.rand(7, 7, generator=generator),
    }


@pytest.mark.parametrize("name", matrices())
def test_optimistic_policy_is_the_official_metric(name: str) -> None:
    scores = matrices()[name]
    right = torch.arange(len(scores))
    forward, backward = RULES["optimistic"]
    assert summary(rank(scores, right, right), forward) == pytest.approx(
        official_summary(official_text_to_video(scores))
    )
    assert summary(rank(scores.T, right, right), backward) == pytest.approx(
        official_summary(official_video_to_text(scores))
    )


def test_policies_agree_without_ties() -> None:
    ranks = rank(matrices()["random"], torch.arange(60), torch.arange(60))
    assert summary(ranks, "expected") == summary(ranks, "best") == summary(ranks, "mean_rank")


def test_a_constant_matrix_is_perfect_for_the_optimist_and_chance_by_default() -> None:
    ranks = rank(torch.ones(50, 50), torch.arange(50), torch.arange(50))
    assert summary(ranks, "best")["R@1"] == 100
    fair = summary(ranks, "expected")
    assert [fair["R@1"], fair["R@5"], fair["R@10"]] == pytest.approx([2, 10, 20])
    assert fair["MedR"] == fair["MeanR"] == 25.5
    assert ranks.tie_share() == 100


def test_expected_recall_is_the_mean_over_random_tie_breaks() -> None:
    scores = matrices()["coarse"]
    generator = torch.Generator().manual_seed(1)
    hits = torch.zeros(60)
    for _ in range(2000):
        broken = scores + 1e-3 * torch.rand(scores.shape, generator=generator)
        hits += (broken > broken.diagonal()[:, None]).sum(1) < 5
    expected = rank(scores, torch.arange(60), torch.arange(60)).hits(5, "expected")
    assert (hits / 2000 - expected).abs().max() < 0.05


def dual_softmax(scores: Tensor, temperature: float) -> Tensor:
    return scores * (temperature * scores).softmax(0)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_blocks_give_what_the_whole_matrix_gives(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    generator = torch.Generator().manual_seed(2)
    video, text = torch.randn(2, 40, 16, generator=generator)
    text[3], video[9], video[8] = text[5], video[30], video[30]
    monkeypatch.setattr(retrieval, "BLOCK_SCORES", rows * 40)
    key = torch.arange(40)
    scores = F.normalize(text, dim=-1).double() @ F.normalize(video, dim=-1).double().T
    scores[:, [8, 9]] = scores[:, [30]]
    scores[3] = scores[5]
    for matrix, queries, candidates in ((scores, text, video), (scores.T, video, text)):
        raw, dual = retrieval_ranks(queries, candidates, key, key, 20.0)
        for ours, whole in ((raw, matrix), (dual, dual_softmax(matrix, 20.0))):
            expected = rank(whole, torch.arange(40), torch.arange(40))
            assert torch.equal(ours.better, expected.better)
            assert torch.equal(ours.tied, expected.tied)


def test_right_pairs_are_those_with_equal_keys() -> None:
    query, candidate = right_pairs(torch.tensor([2, 0, 1]), torch.tensor([1, 0, 2, 1, 1]))
    assert list(zip(query.tolist(), candidate.tolist(), strict=True)) == [(0, 2), (1, 1), (2, 0), (2, 3), (2, 4)]


def test_several_texts_per_video() -> None:
    video = torch.eye(3)
    text = torch.tensor([[1.0, 0, 0], [0, 1, 0.5], [0, 0.5, 1], [0.1, 0, 1]])
    owner = torch.tensor([0, 1, 1, 2])
    forward, _ = retrieval_ranks(text, video, owner, torch.arange(3), 100.0)
    backward, _ = retrieval_ranks(video, text, torch.arange(3), owner, 100.0)
    assert forward.better.tolist() == [0, 0, 1, 0]
    assert backward.better.tolist() == [0, 0, 0]  # the better of video 1's two texts counts, the other is no rival


def features(video: Tensor, text: Tensor, tags: list[dict[str, str]], row: Tensor | None = None) -> Features:
    row = torch.arange(len(text)) if row is None else row
    return Features(path=None, tensors={"video": video, "text": text, "video_row": row}, about={"tags": tags})  # type: ignore[arg-type]


def test_score_reports_both_directions_tags_chance_and_intervals() -> None:
    generator = torch.Generator().manual_seed(3)
    video = torch.randn(20, 8, generator=generator)
    text = video.clone()
    text[:5] = -text[:5]  # the first five queries find their video last
    tags = [{"concepts": "unseen"}] * 5 + [{"concepts": "seen"}] * 15
    result = score_retrieval(features(video, text, tags), Evaluation(), torch.device("cpu"))
    assert result.metrics["t2v_R@1"] == 75
    assert result.metrics["t2v_R@1[concepts=seen]"] == 100
    assert result.metrics["t2v_R@1[concepts=unseen]"] == result.metrics["v2t_R@1[concepts=unseen]"] == 0
    assert result.metrics["t2v_MedR[concepts=unseen]"] > 10
    assert {"dsl_t2v_R@1", "dsl_v2t_MedR", "t2v_R@50", "v2t_MeanR", "tie_share"} <= set(result.metrics)
    assert result.chance["t2v_R@1"] == 5
    low, high = result.intervals["t2v_R@1"]
    assert 45 < low < 75 < high < 100
    assert result.policy["ties"] == "mean" and "100 * S" in result.policy["dsl"]


def test_identical_features_tie_exactly_whatever_the_block() -> None:
    generator = torch.Generator().manual_seed(4)
    one = torch.randn(1, 512, generator=generator)
    result = score_retrieval(
        features(one.repeat(101, 1), torch.randn(101, 512, generator=generator), [{}] * 101),
        Evaluation(),
        torch.device("cpu"),
    )
    assert result.metrics["t2v_tie_share"] == 100
    assert result.metrics["t2v_R@1"] == pytest.approx(100 / 101)


def test_interval_is_that_of_a_proportion() -> None:
    hits = torch.tensor([1.0] * 300 + [0.0] * 700)
    low, high = interval(hits)
    error = 1.96 * 100 * math.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(30 - error, abs=0.4) and high == pytest.approx(30 + error, abs=0.4)
    assert interval(hits) == [low, high]
