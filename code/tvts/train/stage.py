"""The pretrain stage: from a frozen run config and dataset cards to a model folder and its card."""

import datetime
import hashlib
import math
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
import transformers
from transformers.utils.logging import disable_progress_bar

from tvts.config import UserError
from tvts.config.resolve import fingerprint, read_run
from tvts.config.schema import Dataset, warning_seconds
from tvts.corpus.dataset import data_hash
from tvts.corpus.media.read import Reader
from tvts.files import read_json
from tvts.layout import Layout
from tvts.model.card import write_card
from tvts.train import job
from tvts.train.loop import Trainer
from tvts.train.rows import Source
from tvts.version import commit

PACKAGE = Path(__file__).parents[1]


def pretrain(
    config: Path,
    cards: list[Path],
    folder: Path,
    model: Path,
    card: Path,
    reader: Reader,
    threads: int,
    minutes: float | None,
    running: str = "{}",
) -> None:
    """Train the run in `config`, launched as `running` says, on the datasets of `cards`; continue from `folder`, write `model` and `card`.

    Raises UserError for settings that cannot work, Stopped when saved before the end.
    """
    asked: list[int] = []  # to stop, by a signal that may come before the first step
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes - warning_seconds(minutes)
    run = read_run(config, running)
    torch.set_num_threads(threads)
    disable_progress_bar()  # of each model saved: the live line is ours
    if run.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
    process = job.join(run)
    with job.held(config, cards, folder, run, process, minutes):
        sources, data_sha256 = [source(path) for path in cards], data_hash(cards)
        trainer = Trainer(run, sources, data_sha256, folder, process, reader)
        metrics = trainer.train(deadline, lambda: bool(asked))
        facts = {
            "metrics": metrics,
            "config_sha256": fingerprint(run),
            "data_sha256": data_sha256,
            "code_sha256": code_hash(),
            "git_commit": commit(),
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "device": torch.cuda.get_device_name() if process.device.type == "cuda" else "cpu",
            "processes": process.world,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        trainer.export(model, card, facts)
        if process.leads:
            datasets = {path.parent.name: read_json(path) for path in cards}
            write_card(model, config.parent.name, run.model_dump(), read_json(card), datasets)
    if process.world > 1:
        dist.destroy_process_group()


def source(card: Path) -> Source:
    """The dataset that a card stands for. Raises UserError when the card is missing."""
    if not card.exists():
        raise UserError(f"{card}: no such dataset card; build it with `snakemake {card}`")
    settings = Dataset.model_validate(read_json(card)["settings"])
    clips = Layout(card.parents[2]).clips(settings.corpus)
    return Source(card.parent.name, settings, sorted(card.parent.glob("*.parquet")), clips)


def code_hash() -> str:
    """Hash of this package's source."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    return digest.hexdigest()
