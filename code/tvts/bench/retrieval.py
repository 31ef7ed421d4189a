"""How long retrieval scoring takes, and how much memory: random features, both directions, raw and with dual softmax."""

import resource
import time
from pathlib import Path

import torch

from tvts.config import Evaluation
from tvts.evaluate.device import pick_device
from tvts.evaluate.features import Features
from tvts.evaluate.retrieval import score_retrieval


def bench_retrieval(items: int, width: int, threads: int, device: str) -> dict[str, float]:
    """Score `items` texts against as many videos, features of `width`; seconds, and peak memory of the process in GiB."""
    torch.set_num_threads(threads)
    evaluation = Evaluation.model_validate({"device": device})
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(items, width, generator=generator)
    text = video + 2.5 * torch.randn(items, width, generator=generator)
    tensors = {"video": video, "text": text, "video_row": torch.arange(items)}
    features = Features(Path("bench.safetensors"), tensors, {"tags": [{}] * items})
    began = time.perf_counter()
    result = score_retrieval(features, evaluation, pick_device(evaluation.device))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "peak_gib": peak, "t2v_R@1": result.metrics["t2v_R@1"]}
