"""Zero-shot action recognition: which class prompt is nearest to the video (protocol 1.9)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tvts.config import Evaluation
from tvts.evaluate.features import Features
from tvts.evaluate.ranks import Ranks, Rule, interval, percent, rank
from tvts.evaluate.result import Result
from tvts.evaluate.subsets import subsets

RULES: dict[str, Rule] = {"mean": "expected", "optimistic": "best"}
"""`evaluation.ties` -> rule for classes that score alike."""


def score_recognition(features: Features, evaluation: Evaluation, device: torch.device) -> Result:
    """`top1`, `top5` (with more than five classes), `mean_class_top1`, and per tag value; accuracy per class in the
    details.
    """
    video = F.normalize(features["video"].to(device), dim=-1)[features["video_row"].to(device)]
    logits = video @ F.normalize(features["class_text"].to(device), dim=-1).T
    result = classification(logits.cpu(), features["label"], features, RULES[evaluation.ties])
    result.policy |= {"ties": evaluation.ties, "prompts": features.about["prompts"]}
    return result


def classification(logits: Tensor, labels: Tensor, features: Features, rule: Rule) -> Result:
    """Accuracies from class scores [N, C] and labels [N]; tags and class names are those of `features`."""
    ranks = rank(logits, torch.arange(len(labels)), labels)
    top = [k for k in (1, 5) if k < logits.shape[1]]
    result = Result(metrics=accuracies(ranks, rule, top), policy={"tie_rule": rule})
    for name, chosen in subsets(features.about["tags"]):
        part = accuracies(ranks.take(chosen), rule, top)
        result.metrics |= {f"{metric}[{name}]": value for metric, value in part.items()}
    first = ranks.hits(1, rule)
    classes = features.about["classes"]
    per_class = {classes[c]: percent(first[labels == c]) for c in labels.unique().tolist()}
    result.metrics |= {"mean_class_top1": sum(per_class.values()) / len(per_class), "tie_share": ranks.tie_share()}
    result.intervals["top1"] = interval(first)
    result.chance |= {f"top{k}": 100 * k / logits.shape[1] for k in top}
    result.details["per_class"] = per_class
    return result


def accuracies(ranks: Ranks, rule: Rule, top: list[int]) -> dict[str, float]:
    """`top1`, `top5`, ... in percent."""
    return {f"top{k}": percent(ranks.hits(k, rule)) for k in top}
