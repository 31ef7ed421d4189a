"""Where the right answer stands among all: the one idea behind retrieval, recognition and multiple choice.

Ties decide more than one would think (half precision, repeated captions, a collapsed model), so counts of better and
of equal candidates are kept apart and turned into ranks by a named rule. Official: text-to-video takes the best rank
of a tie, so that a constant matrix scores 100; video-to-text takes its mean rank.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

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


def rank(scores: Tensor, right: Tensor) -> Ranks:
    """Ranks in a score matrix [Q, G], higher = better; `right` bool [Q, G] marks right answers, the best of which
    counts.
    """
    best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    others = scores.masked_fill(right, -torch.inf)
    return Ranks((others > best).sum(1), ((others == best) & ~right).sum(1))


def join(parts: Iterable[Ranks]) -> Ranks:
    """Ranks of consecutive parts of the queries."""
    better, tied = zip(*parts, strict=True)
    return Ranks(torch.cat(better), torch.cat(tied))


def percent(values: Tensor) -> float:
    """100 times the mean."""
    return 100 * values.double().mean().item()


def interval(values: Tensor) -> list[float]:
    """95 % bootstrap interval (percentiles, 1,000 resamples of the items, fixed seed) of the mean of `values` [N], in
    percent.
    """
    generator = torch.Generator().manual_seed(0)
    values = values.double().cpu()
    means = torch.stack(
        [values[torch.randint(len(values), (len(values),), generator=generator)].mean() for _ in range(RESAMPLES)]
    )
    return (100 * torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64))).tolist()
