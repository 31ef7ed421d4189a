"""Transcript sorting on a dataset's fixed validation windows: does the model see the order of events?

The windows, their frames and their shufflings are stored with the dataset, so every run answers the same questions.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tvts.config import UserError
from tvts.config.resolve import read_run
from tvts.corpus.media.read import Reader
from tvts.evaluate.device import pick_device
from tvts.evaluate.embed import Log
from tvts.evaluate.encoders import TVTSEncoder, load_tvts, model_hash
from tvts.evaluate.ranks import interval, percent
from tvts.evaluate.result import Result
from tvts.evaluate.score import write_result
from tvts.model.processing import PIXELS, normalize_frames
from tvts.train.data import FixedWindows
from tvts.train.stage import source

EXAMPLES = 8
BATCH = 16


def score_sorting(
    config: Path, model_dir: Path, card: Path, output: Path, reader: Reader, threads: int = 1, log: Log = print
) -> None:
    """Sort the transcripts of every fixed window of a dataset and write `scores/{run}/{dataset}.sorting.json`.

    `config`: the run's frozen config (frames per clip); `card`: the dataset's card, beside its shards. Metrics in
    percent: `sorting` (transcripts put at their true position), `sorting_all` (windows with all K right). `examples`
    are windows at even distances through the set. Raises UserError for a model without sorter.
    """
    torch.set_num_threads(threads)
    device = pick_device("auto")
    frames = read_run(config).model.frames
    encoder = load_tvts(model_dir, frames, device)
    if encoder.model.sorter is None:
        raise UserError(
            f"{model_dir}: this model has no sorter; leave sorting out or train with model.sorter_layers above 0"
        )
    dataset = source(card)
    windows = FixedWindows(dataset, frames, encoder.image_size, reader)
    logits, positions, shown, substituted = _sort(encoder, windows, device, log)
    result = sorting_metrics(logits, positions)
    result.details["examples"] = [shown[i] for i in _spread(len(shown))]
    result.policy["model"] = model_hash(model_dir)
    coverage = {"items": len(windows), "used": len(windows) - substituted, "missing": 0, "substituted": substituted}
    write_result(output, result, run=output.parent.name, benchmark=dataset.name, protocol="sorting", coverage=coverage)


def sorting_metrics(logits: Tensor, positions: Tensor) -> Result:
    """From logits [N, K, K] (row = shown transcript, class = position) and true positions [N, K]."""
    count = logits.shape[1]
    right = logits.argmax(-1) == positions
    return Result(
        metrics={"sorting": percent(right), "sorting_all": percent(right.all(-1)), "windows": float(len(logits))},
        intervals={"sorting": interval(right.double().mean(-1)), "sorting_all": interval(right.all(-1))},
        chance={"sorting": 100 / count, "sorting_all": 100 / count**count},
        policy={"segments": count, "choice": "each transcript on its own, as the official accuracy"},
    )


def _sort(
    encoder: TVTSEncoder, windows: FixedWindows, device: torch.device, log: Log
) -> tuple[Tensor, Tensor, list[dict[str, Any]], int]:
    """Logits [N, K, K], true positions [N, K], each window as shown, and how many stand in for unreadable ones."""
    statistics = PIXELS[encoder.processor.pixels]
    logits, positions, shown, substituted = [], [], [], 0
    for at in range(0, len(windows), BATCH):
        items = [windows[i] for i in range(at, min(at + BATCH, len(windows)))]
        frames = torch.stack([item["frames"] for item in items]).to(device)
        ids = encoder.processor(text=[item["transcripts"] for item in items])["input_ids"].to(device)
        with torch.inference_mode():
            video = normalize_frames(frames, statistics.mean, statistics.std)
            found = encoder.model(video, input_ids=ids).order_logits.float().cpu()
        logits.append(found)
        positions.append(torch.stack([item["positions"] for item in items]))
        substituted += sum(item["replaced"] > 0 for item in items)
        shown += [_example(item, guess) for item, guess in zip(items, found.argmax(-1), strict=True)]
        log(f"sorting {windows.source.name}: {len(shown)}/{len(windows)} windows")
    return torch.cat(logits), torch.cat(positions), shown, substituted


def _example(item: dict[str, Any], guess: Tensor) -> dict[str, Any]:
    """`transcripts[i]` is shown at place i, belongs at `order[i]`, and was put at `predicted[i]`."""
    return {
        "key": item["key"],
        "start": float(item["start"]),
        "length": float(item["length"]),
        "transcripts": list(item["transcripts"]),
        "order": item["positions"].tolist(),
        "predicted": guess.tolist(),
    }


def _spread(count: int) -> list[int]:
    """Up to EXAMPLES indices at even distances."""
    return [i * count // EXAMPLES for i in range(EXAMPLES)] if count > EXAMPLES else list(range(count))
