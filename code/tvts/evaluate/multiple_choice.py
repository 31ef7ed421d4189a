"""Multiple choice: which of a video's own candidate texts describes it (protocol 2.7)."""

import torch
from torch.nn import functional as F

from tvts.config import Evaluation
from tvts.evaluate.features import Features
from tvts.evaluate.ranks import interval, join, rank
from tvts.evaluate.recognition import RULES, accuracies
from tvts.evaluate.result import Result
from tvts.evaluate.subsets import subsets

BLOCK = 256


def score_multiple_choice(features: Features, evaluation: Evaluation, device: torch.device) -> Result:
    """`top1` and `top5`, and per tag value; texts are used verbatim."""
    rule = RULES[evaluation.ties]
    video = F.normalize(features["video"].to(device), dim=-1)[features["video_row"].to(device)]
    options = F.normalize(features["options"].to(device), dim=-1)
    candidates, answers = features["candidates"].to(device), features["answer"].to(device)
    choices = candidates.shape[1]
    parts = (
        rank(torch.einsum("ne,noe->no", v, options[c]), torch.arange(len(a), device=device), a)
        for v, c, a in zip(video.split(BLOCK), candidates.split(BLOCK), answers.split(BLOCK), strict=True)
    )
    ranks = join(parts)
    top = [k for k in (1, 5) if k < choices]
    result = Result(metrics=accuracies(ranks, rule, top) | {"tie_share": ranks.tie_share()})
    for name, chosen in subsets(features.about["tags"]):
        part = accuracies(ranks.take(chosen), rule, top)
        result.metrics |= {f"{metric}[{name}]": value for metric, value in part.items()}
    result.intervals["top1"] = interval(ranks.hits(1, rule))
    result.chance |= {f"top{k}": 100 * k / choices for k in top}
    result.policy |= {"ties": evaluation.ties, "tie_rule": rule, "options": choices}
    return result
