"""Scores from features: one protocol, one JSON file."""

from collections.abc import Callable
from pathlib import Path

import torch

from tvts.config import Evaluation, UserError
from tvts.evaluate.device import pick_device
from tvts.evaluate.features import Features, read_features
from tvts.evaluate.linear_probe import score_linear_probe
from tvts.evaluate.multiple_choice import score_multiple_choice
from tvts.evaluate.recognition import score_recognition
from tvts.evaluate.result import Result
from tvts.evaluate.retrieval import score_retrieval
from tvts.files import write_json

PROTOCOLS: dict[str, Callable[[Features, Evaluation, torch.device], Result]] = {
    "retrieval": score_retrieval,
    "recognition": score_recognition,
    "linear_probe": score_linear_probe,
    "multiple_choice": score_multiple_choice,
}


def score(embeddings: Path, protocol: str, evaluation: Evaluation, output: Path, threads: int = 1) -> None:
    """Score the features in `embeddings/{run}/{benchmark}.safetensors` by `protocol` and write the JSON of
    docs/architecture.md.

    Raises UserError for an unknown protocol or features that lack what it needs.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol {protocol!r}: unknown; known: {', '.join(PROTOCOLS)}")
    torch.set_num_threads(threads)
    features = read_features(Path(embeddings))
    with torch.no_grad():
        result = PROTOCOLS[protocol](features, evaluation, pick_device(evaluation.device))
    coverage = features.about["coverage"]
    if protocol == "linear_probe":
        coverage |= {f"train_{name}": count for name, count in features.about["train_coverage"].items()}
    write_result(
        output,
        result,
        run=features.path.parent.name,
        benchmark=features.path.stem,
        protocol=protocol,
        coverage=coverage,
        policy=result.policy | {"pixels": features.about["pixels"], "model": features.about["model"]},
    )


def write_result(output: Path, result: Result, **about: object) -> None:
    """Write a score file: metrics, intervals, chance, details at the top level, and what `about` adds."""
    body = {"metrics": result.metrics, "intervals": result.intervals, "chance": result.chance, "policy": result.policy}
    write_json(output, body | result.details | about)
