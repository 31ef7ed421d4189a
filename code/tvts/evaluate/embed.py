"""Frozen features of a benchmark, computed once per model; every score is a cheap function of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tvts.config import Benchmark, Evaluation, UserError
from tvts.evaluate.benchmarks import Item, Items, load
from tvts.evaluate.device import pick_device
from tvts.evaluate.encoders import Encoder, load_encoder, model_hash
from tvts.evaluate.features import write_features
from tvts.evaluate.parts import Log, Recipe, encode_videos
from tvts.evaluate.pixels import Preset
from tvts.files import sha256_json
from tvts.train.stage import code_hash


def embed(
    model_dir: Path,
    kind: Literal["tvts", "clip"],
    benchmark: Benchmark,
    evaluation: Evaluation,
    frames: int,
    reader: Literal["pyav", "decord"],
    output: Path,
    cache: Path | None = None,
    processes: int = 1,
    threads: int = 1,
    log: Log = print,
) -> None:
    """Encode the videos and texts of `benchmark` with the model in `model_dir` and write them to `output`.

    The file's content is in docs/architecture.md. Finished batches of videos lie in `cache` (default: `.cache` beside
    the output) and are not encoded again; `processes` share them, on a GPU each where there are GPUs, and `threads`
    CPU cores over all processes decode and compute. Videos that are absent or unreadable are scored as one black frame
    and counted. Raises UserError when their share exceeds `evaluation.max_missing_share`, and for wrong annotations or
    a wrong model folder.
    """
    torch.set_num_threads(max(1, threads // processes))
    items = load(benchmark)
    encoder = load_encoder(Path(model_dir), kind, frames, pick_device(evaluation.device))
    preset, model = Preset(evaluation.pixels, encoder.image_size, frames, reader), model_hash(Path(model_dir))
    recipe = Recipe(
        Path(model_dir), kind, preset, evaluation.batch_size, evaluation.device,
        identity=sha256_json([model, code_hash()]), cache=cache or output.parent / ".cache", processes=processes, threads=threads,
    )  # fmt: skip
    worker = _Worker(encoder, recipe, evaluation, log)
    with torch.inference_mode():
        test = worker.videos(items.test, f"{output.stem} videos")
        tensors = {"video": test.features, "video_row": test.row}
        tensors |= _texts(items, benchmark, evaluation, worker)
        about: dict[str, Any] = {"coverage": test.coverage()}
        if "linear_probe" in benchmark.protocols:
            train = worker.videos(items.train, f"{output.stem} training videos")
            tensors |= _probe_training(items.train, train)
            about["train_coverage"] = train.coverage()
    _check_finite(tensors, model_dir)
    about |= {
        "ids": [item.id for item in items.test],
        "tags": [dict(item.tags) for item in items.test],
        "classes": items.classes,
        "prompts": list(_prompts(items, evaluation)) if items.classes else [],
        "kind": kind,
        "model": model,
        "pixels": preset.describe(),
    }
    write_features(output, tensors, about)


class _Videos(NamedTuple):
    """Features of the distinct videos of a list of items, and their problems; `row[i]` is the one of item i."""

    features: Tensor
    problems: list[str | None]
    row: Tensor

    def coverage(self) -> dict[str, int]:
        """Items by what their video gave: own frames (`used`), no file (`missing`), unreadable (`substituted`)."""
        return _coverage([self.problems[row] for row in self.row.tolist()])


def _coverage(problems: Sequence[str | None]) -> dict[str, int]:
    missing, unreadable = problems.count("missing"), problems.count("unreadable")
    used = len(problems) - missing - unreadable
    return {"items": len(problems), "used": used, "missing": missing, "substituted": unreadable}


class _Worker:
    """Runs one encoder over lists of videos and texts."""

    def __init__(self, encoder: Encoder, recipe: Recipe, evaluation: Evaluation, log: Log) -> None:
        self.encoder, self.recipe, self.evaluation, self.log = encoder, recipe, evaluation, log

    def videos(self, items: Sequence[Item], what: str) -> _Videos:
        """Encode the distinct videos of `items`. Raises UserError when too many give no frames: for files that are
        not there before anything is encoded.
        """
        place = {path: row for row, path in enumerate(dict.fromkeys(item.video for item in items))}
        absent = {path for path in place if not path.is_file()}
        self._check(items, ["missing" if item.video in absent else None for item in items], what)
        encoded = encode_videos(self.recipe, self.encoder, list(place), what, self.log)
        row = torch.tensor([place[item.video] for item in items])
        self._check(items, [encoded.problems[place[item.video]] for item in items], what)
        return _Videos(*encoded, row)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Features [N, E] of N texts; equal texts get identical features."""
        place = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        distinct, size = list(place), 4 * self.evaluation.batch_size
        parts = [self.encoder.text(distinct[at : at + size]).float().cpu() for at in range(0, len(distinct), size)]
        return torch.cat(parts)[torch.tensor([place[text] for text in texts])]

    def _check(self, items: Sequence[Item], problems: list[str | None], what: str) -> None:
        coverage, allowed = _coverage(problems), self.evaluation.max_missing_share
        if coverage["items"] - coverage["used"] > allowed * coverage["items"]:
            first = next(item for item, problem in zip(items, problems, strict=True) if problem)
            raise UserError(
                f"{what}: {coverage['missing']} of {coverage['items']} are missing and {coverage['substituted']} unreadable, "
                f"the first is {first.video}; evaluation.max_missing_share allows {allowed:.0%}"
            )


def _texts(items: Items, benchmark: Benchmark, evaluation: Evaluation, worker: _Worker) -> dict[str, Tensor]:
    """Text tensors of the benchmark's protocols."""
    tensors: dict[str, Tensor] = {}
    if "retrieval" in benchmark.protocols:
        tensors["text"] = worker.texts([str(item.text) for item in items.test])
    if {"recognition", "linear_probe"} & set(benchmark.protocols):
        tensors["label"] = torch.tensor([item.label for item in items.test])
    if "recognition" in benchmark.protocols:
        tensors["class_text"] = _class_texts(items.classes, _prompts(items, evaluation), worker)
    if "multiple_choice" in benchmark.protocols:
        tensors |= _options(items.test, worker)
    return tensors


def _prompts(items: Items, evaluation: Evaluation) -> tuple[str, ...]:
    return items.prompts or (evaluation.prompt,)


def _class_texts(classes: list[str], prompts: tuple[str, ...], worker: _Worker) -> Tensor:
    """[C, E]: per class the normalised mean of the normalised features of its prompts (protocol 1.9)."""
    texts = worker.texts([prompt.replace("{}", name) for name in classes for prompt in prompts])
    return F.normalize(F.normalize(texts, dim=-1).unflatten(0, (len(classes), -1)).mean(1), dim=-1)


def _options(items: list[Item], worker: _Worker) -> dict[str, Tensor]:
    """Distinct option texts, encoded once, and each item's candidates as rows of them."""
    place = {text: row for row, text in enumerate(dict.fromkeys(option for item in items for option in item.options))}
    return {
        "options": worker.texts(list(place)),
        "candidates": torch.tensor([[place[option] for option in item.options] for item in items]),
        "answer": torch.tensor([item.answer for item in items]),
    }


def _probe_training(items: Sequence[Item], encoded: _Videos) -> dict[str, Tensor]:
    """Training features, labels and groups (numbered); videos without frames teach nothing and are left out."""
    kept = [i for i, row in enumerate(encoded.row.tolist()) if encoded.problems[row] is None]
    names = [items[i].group or f"item {i}" for i in kept]
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return {
        "train_video": encoded.features[encoded.row[kept]],
        "train_label": torch.tensor([items[i].label for i in kept]),
        "train_group": torch.tensor([number[name] for name in names]),
    }


def _check_finite(tensors: dict[str, Tensor], model_dir: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(
                f"{model_dir}: its {name} features are not finite; the run has diverged, look at its metrics"
            )
