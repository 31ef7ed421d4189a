"""Where the right answer stands among all: the one idea behind retrieval, recognition and multiple choice.

Ties decide more than one would think (half precision, repeated captions, a collapsed model), so counts of better and
of equal candidates are kept apart and turned into ranks by a named rule. Official: text-to-video takes the best rank
of a tie, so that a constant matrix scores 100; video-to-text takes its mean rank.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Rule = Literal["expected", "best", "mean_rank"]
"""`expected`: recall is its expectation when ties are broken at random; `best`, `mean_rank`: the official rules."""

RESAMPLES = 1000


class Ranks(NamedTuple):
    """Per query, candidates that score `better` than the right one and others `tied` with it: int64 [Q]."""

    better: Tensor
    tied: Tensor

    def take(self, queries: Tensor) -> "Ranks":
        """Ranks of some queries (indices or mask)."""
        return Ranks(self.better[queries], self.tied[queries])

    def hits(self, k: int, rule: Rule) -> Tensor:
        """Share in [0, 1] of each query's right answer within the first `k`, float64 [Q]."""
        if rule == "expected":
            return ((k - self.better).double() / (self.tied + 1)).clamp(0, 1)
        return (self.rank(rule) < k).double()

    def rank(self, rule: Rule) -> Tensor:
        """Rank from 0, float64 [Q]; in the middle of a tie unless the rule is `best`."""
        return self.better.double() + (0 if rule == "best" else self.tied.double() / 2)

    def tie_share(self) -> float:
        """Percent of queries whose right answer ties with another candidate."""
        return 100 * (self.tied > 0).double().mean().item()


def rank(scores: Tensor, query: Tensor, candidate: Tensor) -> Ranks:
    """Ranks in a score matrix [Q, G], higher = better.

    (query[i], candidate[i]) are the right pairs, int [P]; each query has at least one, and the best of its own counts.
    """
    own = scores[query, candidate]
    best = torch.full_like(scores[:, 0], -torch.inf).scatter_reduce_(0, query, own, "amax")
    own_best = query.new_zeros(len(scores)).index_add_(0, query, (own == best[query]).long())
    better, equal = scores > best[:, None], scores == best[:, None]
    return Ranks(better.sum(1, dtype=torch.int32), equal.sum(1, dtype=torch.int32) - own_best)


def join(parts: Iterable[Ranks]) -> Ranks:
    """Ranks of consecutive parts of the queries, in host memory."""
    better, tied = zip(*parts, strict=True)
    return Ranks(torch.cat(better).cpu(), torch.cat(tied).cpu())


def percent(values: Tensor) -> float:
    """100 times the mean."""
    return 100 * values.double().mean().item()


def interval(values: Tensor) -> list[float]:
    """95 % bootstrap interval (percentiles, 1,000 resamples of the items, fixed seed) of the mean of `values` [N], in
    percent.
    """
    hits, random = values.double().cpu().numpy(), np.random.default_rng(0)
    means = [hits[random.integers(len(hits), size=len(hits))].mean() for _ in range(RESAMPLES)]
    return [100 * float(bound) for bound in np.percentile(means, (2.5, 97.5))]
