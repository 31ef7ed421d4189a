"""Distortion: how far learning from speech has moved a text encoder away from the CLIP it started as, and what that costs.

Two registers are compared: *descriptive* (captions of a retrieval benchmark, the language CLIP was made for) and *spoken*
(transcripts of a dataset's held-out windows, the language that is learnt from). Per block of the text tower and at its
output, `Drift` measures the distance to the initial encoder on the same texts. Retrieval within a register searches the
videos of that register; across registers it searches the videos of both, so that what is learnt from one register may get
in the way of the other.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvts.config import Benchmark, Evaluation, UserError
from tvts.config.resolve import read_run
from tvts.corpus.media.read import Reader
from tvts.evaluate.benchmarks import load
from tvts.evaluate.device import pick_device
from tvts.evaluate.encoders import Encoder, load_encoder, model_hash
from tvts.evaluate.features import Features, read_features
from tvts.evaluate.parts import Log
from tvts.evaluate.ranks import interval, percent
from tvts.evaluate.result import Result
from tvts.evaluate.retrieval import RULES, retrieval_ranks
from tvts.evaluate.score import write_result
from tvts.model import text_ends
from tvts.model.processing import PIXELS, normalize_frames
from tvts.train.data import FixedWindows
from tvts.train.stage import source

REGISTERS = ("descriptive", "spoken")
RECALLS = (1, 10)
BATCH = 64


def score_distortion(
    config: Path,
    model_dir: Path,
    card: Path,
    embeddings: Path,
    benchmark: Benchmark,
    evaluation: Evaluation,
    output: Path,
    reader: Reader,
    threads: int = 1,
    log: Log = print,
) -> None:
    """Measure a run's distortion and write `scores/{run}/{dataset}.distortion.json`.

    config: the run's frozen config; `model_dir`: its model, or its CLIP folder for a baseline (whose drift is zero).
    card: of the dataset whose held-out windows are the spoken register. embeddings: the run's features of `benchmark`,
    whose captions are the descriptive register. Metrics: `{register}_cka_drift`, `{register}_cosine_drift` at the
    output, 0 = unmoved; `{register}_R@K` and `{register}_R@K_across`, percent. `blocks` holds both drifts per block,
    the output last. Raises UserError for features without texts and for a dataset without held-out windows.
    """
    torch.set_num_threads(threads)
    device = pick_device(evaluation.device)
    run, features = read_run(config), read_features(embeddings)
    encoder = load_encoder(model_dir, "clip" if run.kind == "clip" else "tvts", run.model.frames, device)
    initial = load_encoder(Path(run.model.clip), "clip", run.model.frames, device)
    dataset = source(card)
    windows = FixedWindows(dataset, run.model.frames, encoder.image_size, reader)
    if not len(windows):
        raise UserError(f"{card}: no held-out windows to speak the spoken register; raise validation_share")
    with torch.inference_mode():
        spoken, transcripts = _spoken(encoder, windows, evaluation, device, log)
        texts = {"descriptive": [str(item.text) for item in load(benchmark).test], "spoken": transcripts}
        blocks = {register: drift_per_block(initial, encoder, texts[register]) for register in REGISTERS}
        result = register_retrieval(_described(features), spoken, evaluation)
    for register, found in blocks.items():
        result.metrics |= {f"{register}_{measure}_drift": values[-1] for measure, values in found.items()}
    result.details["blocks"] = blocks
    result.policy |= {"model": model_hash(model_dir), "initial": model_hash(Path(run.model.clip))}
    result.policy |= {"captions": features.path.stem, "texts": {name: len(found) for name, found in texts.items()}}
    about = features.about["coverage"]
    coverage = about | {name: about[name] + len(windows) for name in ("items", "used")}
    write_result(
        output, result, run=output.parent.name, benchmark=dataset.name, protocol="distortion", coverage=coverage
    )


# --- drift ------------------------------------------------------------------------------------------------------------


class Drift:
    """Distance between two encoders' features of the same texts, from sums over batches in float64.

    `cka`: 1 - linear CKA of the centred features (0: equal up to rotation and scale). `cosine`: mean of 1 - cosine
    (0: the very same directions). Equal features give exactly 0.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sums: list[Any] = [0.0, 0.0]
        self.products: list[Any] = [0.0, 0.0, 0.0]
        self.distance = 0.0

    def add(self, before: Tensor, after: Tensor) -> None:
        """Take in features [B, D] of B more texts."""
        x, y = before.double(), after.double()
        self.count += len(x)
        self.sums = [total + part.sum(0) for total, part in zip(self.sums, (x, y), strict=True)]
        pairs = ((x, y), (x, x), (y, y))
        self.products = [total + a.T @ b for total, (a, b) in zip(self.products, pairs, strict=True)]
        self.distance += (F.normalize(x, dim=-1) - F.normalize(y, dim=-1)).square().sum().item() / 2

    def cka(self) -> float:
        """1 - linear CKA; 0 when neither encoder tells the texts apart."""
        x, y = self.sums
        pairs = ((x, y), (x, x), (y, y))
        shared, own, other = (
            (product - a[:, None] * b / self.count).square().sum().item()
            for product, (a, b) in zip(self.products, pairs, strict=True)
        )
        scale = (own * other) ** 0.5
        return 1 - shared / scale if scale else float(own != other)

    def cosine(self) -> float:
        """Mean of 1 - cosine."""
        return self.distance / self.count


def drift_per_block(initial: Encoder, tuned: Encoder, texts: Sequence[str]) -> dict[str, list[float]]:
    """`cka` and `cosine` drift after each block of the text tower, then at its output (after norm and projection).

    A block is read at the end-of-text token, as the output is.
    """
    drifts = [Drift() for _ in range(len(tuned.model.text_model.encoder.layers) + 1)]
    for at in range(0, len(texts), BATCH):
        ids = tuned.tokens(list(texts[at : at + BATCH]))
        states = zip(text_states(initial.model, ids), text_states(tuned.model, ids), strict=True)
        for drift, (before, after) in zip(drifts, states, strict=True):
            drift.add(before, after)
    return {"cka": [drift.cka() for drift in drifts], "cosine": [drift.cosine() for drift in drifts]}


def text_states(model: Any, input_ids: Tensor) -> list[Tensor]:
    """Per block [B, D], the output [B, E] last: features at the end-of-text of ids [B, L] in a TVTS or CLIP model."""
    with _recorded(model.text_model.encoder.layers) as states:
        output = model.text_projection(model.text_model(input_ids).pooler_output)
    ends = text_ends(input_ids, model.config.text_config.eos_token_id)
    rows = torch.arange(len(input_ids), device=input_ids.device)
    return [*(state[rows, ends] for state in states), output]


@contextlib.contextmanager
def _recorded(blocks: nn.ModuleList) -> Iterator[list[Tensor]]:
    """What each block returns, in order, while the context is open."""
    states: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda block, given, output: states.append(output)) for block in blocks]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


# --- retrieval --------------------------------------------------------------------------------------------------------


class Register(NamedTuple):
    """Texts of one register and their videos: features [N, E], [V, E], and each text's video [N]."""

    text: Tensor
    video: Tensor
    row: Tensor


def register_retrieval(descriptive: Register, spoken: Register, evaluation: Evaluation) -> Result:
    """Text-to-video R@K of each register's texts among its own videos, and (`_across`) among the videos of both."""
    rule = RULES[evaluation.ties][0]
    result = Result(policy={"ties": evaluation.ties, "tie_rule": rule})
    registers = dict(zip(REGISTERS, (descriptive, spoken), strict=True))
    both = torch.cat([register.video for register in registers.values()])
    first = 0
    for name, register in registers.items():
        for suffix, videos, shift in (("", register.video, 0), ("_across", both, first)):
            keys = torch.arange(len(videos), device=videos.device)
            ranks, _ = retrieval_ranks(register.text, videos, register.row + shift, keys, evaluation.dsl_temperature)
            result.metrics |= {f"{name}_R@{k}{suffix}": percent(ranks.hits(k, rule)) for k in RECALLS}
            result.chance |= {f"{name}_R@{k}{suffix}": min(100.0, 100 * k / len(videos)) for k in RECALLS}
            result.intervals[f"{name}_R@1{suffix}"] = interval(ranks.hits(1, rule))
        first += len(register.video)
    return result


def _described(features: Features) -> Register:
    return Register(features["text"], features["video"], features["video_row"])


def _spoken(
    encoder: Encoder, windows: FixedWindows, evaluation: Evaluation, device: torch.device, log: Log
) -> tuple[Register, list[str]]:
    """The held-out windows, each with the mean of its transcripts' features (as in training), and all transcripts."""
    statistics, size = PIXELS[evaluation.pixels], evaluation.batch_size
    videos, texts, transcripts = [], [], []
    for at in range(0, len(windows), size):
        items = [windows[i] for i in range(at, min(at + size, len(windows)))]
        frames = torch.stack([item["frames"] for item in items]).to(device)
        real = torch.ones(frames.shape[:2], dtype=torch.bool, device=device)
        videos.append(encoder.video(normalize_frames(frames, statistics.mean, statistics.std), real).float().cpu())
        said = [text for item in items for text in item["transcripts"]]
        texts.append(encoder.text(said).float().cpu().unflatten(0, (len(items), -1)).mean(1))
        transcripts += said
        log(f"distortion on {windows.source.name}: {at + len(items)}/{len(windows)} windows")
    return Register(torch.cat(texts), torch.cat(videos), torch.arange(len(windows))), transcripts
