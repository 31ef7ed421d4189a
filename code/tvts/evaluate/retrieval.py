"""Text-to-video and video-to-text retrieval: R@K, MedR, MeanR, raw and with dual softmax (protocol 1.7, 1.8).

Similarity is the cosine in float32, computed in blocks of queries, so that 100,000 x 100,000 needs no full matrix.
Equal candidates are scored once, which keeps true ties exactly equal whatever the order of summation.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tvts.config import Evaluation
from tvts.evaluate.features import Features
from tvts.evaluate.ranks import Ranks, Rule, interval, join, percent, rank
from tvts.evaluate.result import Result
from tvts.evaluate.subsets import subsets

RECALLS = (1, 5, 10, 50)
BLOCK_SCORES = 2**24
"""Scores held at once, 64 MiB."""
RULES: dict[str, tuple[Rule, Rule]] = {"mean": ("expected", "expected"), "optimistic": ("best", "mean_rank")}
"""`evaluation.ties` -> rule of (text-to-video, video-to-text)."""


def score_retrieval(features: Features, evaluation: Evaluation, device: torch.device) -> Result:
    """Metrics with prefixes `t2v_`, `v2t_`, `dsl_t2v_`, `dsl_v2t_`, and per tag value `t2v_R@1[tag=value]` (queries
    of that value, all candidates).
    """
    video, text = features["video"].to(device), features["text"].to(device)
    text_video, video_itself = features["video_row"].to(device), torch.arange(len(video), device=device)
    rules = dict(zip(("t2v", "v2t"), RULES[evaluation.ties], strict=True))
    result = Result(
        policy={"ties": evaluation.ties, "tie_rules": rules, "dsl": dsl_formula(evaluation.dsl_temperature)}
    )
    first_text = torch.full((len(video),), len(text)).scatter_reduce(
        0, features["video_row"], torch.arange(len(text)), "amin"
    )
    tags = {"t2v": features.about["tags"], "v2t": [features.about["tags"][i] for i in first_text.tolist()]}
    for direction, queries, candidates, query_key, candidate_key in (
        ("t2v", text, video, text_video, video_itself),
        ("v2t", video, text, video_itself, text_video),
    ):
        rule = rules[direction]
        raw, dual = retrieval_ranks(queries, candidates, query_key, candidate_key, evaluation.dsl_temperature)
        result.metrics |= summary(raw, rule, f"{direction}_") | summary(dual, rule, f"dsl_{direction}_")
        for name, chosen in subsets(tags[direction]):
            part = summary(raw.take(chosen), rule, f"{direction}_")
            result.metrics |= {f"{metric}[{name}]": value for metric, value in part.items() if "MeanR" not in metric}
        result.intervals[f"{direction}_R@1"] = interval(raw.hits(1, rule))
        result.chance |= {f"{direction}_R@{k}": min(100.0, 100 * k / len(candidates)) for k in RECALLS}
        result.metrics[f"{direction}_tie_share"] = raw.tie_share()
    result.metrics["tie_share"] = (result.metrics["t2v_tie_share"] + result.metrics["v2t_tie_share"]) / 2
    return result


def dsl_formula(temperature: float) -> str:
    """The dual softmax in words."""
    return f"S * softmax over queries of {temperature:g} * S, S = raw cosine, each direction from raw S (CLIP-ViP)"


def summary(ranks: Ranks, rule: Rule, prefix: str = "") -> dict[str, float]:
    """R@1, R@5, R@10, R@50 in percent, their first three's geometric mean (GeoR), median (MedR) and mean rank (MeanR)
    from 1.
    """
    recall = {k: percent(ranks.hits(k, rule)) for k in RECALLS}
    place = ranks.rank(rule) + 1
    values = {f"R@{k}": value for k, value in recall.items()} | {
        "GeoR": (recall[1] * recall[5] * recall[10]) ** (1 / 3),
        "MedR": place.quantile(0.5).item() if len(place) < 2**24 else place.median().item(),
        "MeanR": place.mean().item(),
    }
    return {f"{prefix}{name}": value for name, value in values.items()}


def retrieval_ranks(
    queries: Tensor, candidates: Tensor, query_key: Tensor, candidate_key: Tensor, temperature: float
) -> tuple[Ranks, Ranks]:
    """Ranks of each query's right candidates, those whose key equals its key: (by cosine S, by dual softmax).

    queries [Q, E], candidates [G, E]: features, any norm; keys: int [Q], [G]. Dual softmax scores are
    S_qg * exp(t S_qg) / sum over q' of exp(t S_q'g), t = `temperature`. Needs memory for a block of scores, not for all.
    """
    queries = F.normalize(queries.float(), dim=-1, eps=1e-8)
    candidates = F.normalize(candidates.float(), dim=-1, eps=1e-8)
    distinct, copy = candidates.unique(dim=0, return_inverse=True)
    repeated = len(distinct) < len(candidates)
    distinct = distinct if repeated else candidates
    rows = max(1, BLOCK_SCORES // len(candidates))
    total = _log_sum_exp(queries, distinct, temperature, rows)
    pairs = right_pairs(query_key, candidate_key)
    raw, dual = [], []
    for first in range(0, len(queries), rows):
        within = (pairs[0] >= first) & (pairs[0] < first + rows)
        query, candidate = pairs[0][within] - first, pairs[1][within]
        scores = queries[first : first + rows] @ distinct.T
        raw.append(rank(scores.index_select(1, copy) if repeated else scores, query, candidate))
        scores *= (temperature * scores).sub_(total).exp_()
        dual.append(rank(scores.index_select(1, copy) if repeated else scores, query, candidate))
    return join(raw), join(dual)


def right_pairs(query_key: Tensor, candidate_key: Tensor) -> tuple[Tensor, Tensor]:
    """All (query, candidate) with equal keys as two index lists, by query. Keys: int [Q], [G]."""
    ordered, order = candidate_key.sort(stable=True)
    first, last = (torch.searchsorted(ordered, query_key, right=right) for right in (False, True))
    count = last - first
    query = torch.arange(len(query_key), device=query_key.device).repeat_interleave(count)
    within = torch.arange(len(query), device=query_key.device) - (count.cumsum(0) - count)[query]
    return query, order[first[query] + within]


def _log_sum_exp(queries: Tensor, candidates: Tensor, temperature: float, rows: int) -> Tensor:
    """log of the sum over queries of exp(temperature * cosine), per candidate [G]."""
    total = torch.full((len(candidates),), -torch.inf, device=candidates.device)
    for block in queries.split(rows):
        total = torch.logaddexp(total, (temperature * (block @ candidates.T)).logsumexp(0))
    return total
