"""The training loop: what happens at each step, and when. How it is done lies in the modules it calls."""

import contextlib
import functools
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from tvts.config import UserError
from tvts.config.errors import for_people
from tvts.config.resolve import identity
from tvts.config.schema import Run
from tvts.corpus.media.read import Reader
from tvts.files import write_json
from tvts.model import TVTSModel, from_clip
from tvts.model.flops import peak_tflops, training_gflop
from tvts.model.processing import TVTSProcessor
from tvts.model.tuning import group_table, set_trainable
from tvts.train import checkpoint
from tvts.train.data import Collate, FixedWindows, GlobalBatches, TrainingSet, loader, steps_per_pass
from tvts.train.distributed import Process, agree, lead_tells
from tvts.train.health import Health
from tvts.train.inputs import ToDevice
from tvts.train.metrics import Meter, Metrics, show
from tvts.train.optim import build_optimizer, rate, set_rate
from tvts.train.parallel import clip_gradients, load_whole_state, parallelize, whole_state, whole_weights
from tvts.train.rows import Source, write_rows
from tvts.train.step import backward
from tvts.train.validation import validate

Batches = dict[int, dict[str, Any]]
"""For each source that takes part in a step its batch on this process."""


class Stopped(UserError):
    """The trainer was asked to stop, or ran out of time, and saved its state."""

    status = 75


@dataclass
class Plan:
    """Length of a run in steps."""

    steps_per_epoch: int
    total: int
    validate_every: int


class Trainer:
    """Trains one run to its end, continuing from the newest checkpoint in `folder`."""

    def __init__(
        self, run: Run, sources: list[Source], data_sha256: str, folder: Path, process: Process, reader: Reader
    ) -> None:
        assert run.data is not None
        self.run, self.data, self.sources, self.folder, self.process = run, run.data, sources, folder, process
        self.settings = identity(run) | {"data_sha256": data_sha256}
        _seed(run.seed)
        told = [source for source in sources if source.settings.text == "transcript"]
        transcripts = max((source.settings.segments for source in told), default=1)
        with for_people():
            self.model = from_clip(
                run.model.clip,
                num_frames=run.model.frames,
                mask_ratio=run.model.mask_ratio,
                clip_style=run.model.style,
                sorter_layers=run.model.sorter_layers if transcripts > 1 else 0,
                num_transcripts=transcripts,
                temporal_embedding_std=run.model.temporal_embedding_std,
                temporal_attention_init=run.model.temporal_attention,
            ).to(process.device)
            trained = {"train_embeddings": run.text.train_embeddings, "train_final": run.text.train_final}
            set_trainable(self.model, run.text.frozen_blocks, **trained)
        text, vision = self.model.config.text_config, self.model.config.vision_config
        self.processor = TVTSProcessor(
            CLIPTokenizer.from_pretrained(run.model.clip),
            image_size=vision.image_size,
            pixels=self.data.pixels,
            context_length=text.max_position_embeddings,
        )
        self.forward = parallelize(self.model, run, process)
        self.optimizer = build_optimizer(self.model, run.optim)
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if process.leads:
            for group, parameters, lr, decay in group_table(self.model, self.optimizer.param_groups):
                show(f"{group:24} {parameters:>12,} parameters  lr {lr:g}  decay {decay:g}", last=True)
        self.peak = peak_tflops(run.train.precision)
        self.gflop = training_gflop(self.model.config, run.text.frozen_blocks, **trained) if self.peak else 0.0
        if process.leads:
            for source in sources:
                write_rows(source)
        agree(process)  # the other processes find the rows written
        self.sets = [TrainingSet(source, run, self.model.config, reader) for source in sources]
        self.fixed = [FixedWindows(source, run.model.frames, vision.image_size, reader) for source in told]
        self.alternating = self.data.mixing == "alternating" and len(self.sets) > 1
        self.plan = _plan(run, len(self.sets[0]), len(self.sets) if self.alternating else 1, process.world)
        self.collate, self.to_device = Collate(self.processor), ToDevice(process.device, self.data.pixels)
        together = 1 if self.alternating else len(self.sets)
        self.clips_per_step = self.data.batch_size * together
        self.health = Health(process, run.objective, self.data.batch_size, transcripts, together, folder)
        self.meter, self.writer = Meter(process), checkpoint.Writer()
        self.step, self.replaced = 0, 0.0
        self.best: dict[str, Any] | None = None

    def train(self, deadline: float, asked: Callable[[], bool]) -> dict[str, float]:
        """Train to the end; returns the last validation's metrics.

        Raises Stopped after saving when somebody has `asked` for it or `deadline` (of `time.monotonic`) has come, UserError when training
        diverges or too many clips cannot be read.
        """
        self._resume()
        try:
            return self._steps(deadline, asked)
        finally:
            self.writer.finish()  # also when training fails: what was good is kept

    def _steps(self, deadline: float, asked: Callable[[], bool]) -> dict[str, float]:
        metrics = Metrics(self.folder / "metrics.jsonl", self.step) if self.process.leads else None
        saved = began = time.monotonic()
        first = self.step
        last = self.validate() if self.step == self.plan.total else {}
        for batches in self.batches():
            self._optimise(batches)
            done = self.step == self.plan.total
            if self.step % self.run.train.log_every == 0 or done:
                record = self._record()
                if metrics:
                    metrics.append(self.step, epoch=self.step / self.plan.steps_per_epoch, lr=self._rate(), **record)
                    pace = (time.monotonic() - began) / (self.step - first)
                    show(self._line(record, pace * (self.plan.total - self.step)), last=done)
            if self.step % self.plan.validate_every == 0 or done:
                with self.meter.paused():
                    last = self.validate()
                    self._keep_best(last)
                if metrics:
                    metrics.append(self.step, epoch=self.step / self.plan.steps_per_epoch, **last)
            late = time.monotonic() > deadline
            due = self.process.leads and time.monotonic() - saved > 60 * self.run.train.checkpoint_minutes
            stop, due = agree(self.process, asked() or late, due)
            if stop or due or done:
                self._save(finished=done)
                saved = time.monotonic()
            if stop and not done:
                self._finish_writing()
                reason = "out of time" if late else "asked to stop"
                raise Stopped(f"{reason}: saved step {self.step} of {self.plan.total}; the same command continues")
        self._finish_writing()
        return last

    def validate(self) -> dict[str, float]:
        """Sorting accuracy and retrieval on each source's fixed held-out windows: `val_...`, in percent."""
        result: dict[str, float] = {}
        for fixed in self.fixed:
            found = validate(self.model, fixed, self.collate, self.to_device, self.process, self._autocast)
            suffix = f"/{fixed.source.name}" if len(self.fixed) > 1 else ""
            result |= {f"val_{name}{suffix}": value for name, value in found.items()}
        return result

    def export(self, output: Path, card: Path, facts: dict[str, Any]) -> None:
        """Write the model with its processor, and the card that vouches for it. Every process must call it."""
        weights = whole_weights(self.model)
        if self.process.leads:
            self._write_model(output, weights)
            best = self.best and self.best | {"folder": str(self._best_folder(self.best["step"]))}
            write_json(card, facts | {"step": self.step, "best": best})

    def batches(self) -> Iterator[Batches]:
        """For each remaining step the batches that belong to it: one per source, or one source in turn when alternating."""
        sources = len(self.sets) if self.alternating else 1
        remaining = range(self.step, self.plan.total)
        streams = {
            number: iter(
                loader(
                    training_set,
                    GlobalBatches(
                        len(training_set),
                        self.data.batch_size,
                        range(
                            -(-(remaining.start - (number % sources)) // sources),
                            -(-(remaining.stop - (number % sources)) // sources),
                        ),
                        self.run.seed,
                        self.process.rank,
                        self.process.world,
                    ),
                    self.collate,
                    self.data.workers,
                )
            )
            for number, training_set in enumerate(self.sets)
        }
        for step in remaining:
            began = time.perf_counter()
            chosen = [step % sources] if self.alternating else list(streams)
            batches = {number: next(streams[number]) for number in chosen}
            self.meter.waited += time.perf_counter() - began
            yield batches

    def _optimise(self, batches: Batches) -> None:
        """One optimiser step on the sum of the losses of `batches`."""
        set_rate(self.optimizer, self._rate())
        self.optimizer.zero_grad(set_to_none=True)
        measured: dict[str, Tensor] = {}
        for number, batch in batches.items():
            losses = backward(
                self.forward, self.to_device(batch), self.run.objective, self.run.launch.accumulate, self._autocast
            )
            suffix = f"/{self.sources[number].name}" if len(self.sources) > 1 else ""
            measured["loss"] = measured.get("loss", 0.0) + losses["loss"]
            measured |= {f"contrastive{suffix}": losses["contrastive"], f"sorting{suffix}": losses["sorting"]}
        measured["gradient_norm"] = clip_gradients(self.trained, self.run.optim.clip_gradient)
        self.optimizer.step()
        self.step += 1
        keys = [key for batch in batches.values() for key in batch["keys"]]
        self.health.add(self.step, measured["loss"], measured["gradient_norm"], keys)
        share = sum(batch["replaced"] for batch in batches.values()) / len(keys)
        measured["replaced"] = torch.full_like(measured["loss"], share)
        self.meter.add(measured, len(keys))

    def _record(self) -> dict[str, float]:
        """What the steps since the last record gave. Raises UserError when training must not go on."""
        self.health.check()
        steps = (self.step - 1) % self.run.train.log_every + 1
        record = self.meter.read()
        self.replaced += record["replaced"] * steps * self.clips_per_step
        seen = self.step * self.clips_per_step
        if self.replaced > max(1.5, self.data.max_corrupt_share * seen):
            raise UserError(
                f"step {self.step}: {self.replaced:.0f} of {seen} clips could not be read, more than data.max_corrupt_share = "
                f"{self.data.max_corrupt_share}; see the lines above for their keys, and build those shards again"
            )
        if self.peak:
            record["mfu"] = record["clips_per_second"] * self.gflop / 1e3 / (self.peak * self.process.world)
        return record

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.run.train.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.process.device.type, dtype=torch.bfloat16)

    def _rate(self) -> float:
        return rate(self.run.optim, self.step, self.plan.steps_per_epoch, self.plan.total)

    def _resume(self) -> None:
        found = checkpoint.find_latest(self.folder, self.settings, show) if self.process.leads else None
        found = lead_tells(self.process, found)
        if found is None:
            return
        state, facts = checkpoint.read_state(found[0]), found[1]
        load_whole_state(self.model, self.optimizer, state)
        self.meter.load(state["meter"])
        self.step, self.best, self.replaced = facts["step"], facts["best"], facts["replaced"]
        if self.process.leads:
            show(f"continuing at step {self.step} of {self.plan.total}", last=True)

    def _save(self, finished: bool) -> None:
        """Copy the state of training to host memory; it is written while training goes on."""
        self.health.check()
        state = whole_state(self.model, self.optimizer) | {"meter": self.meter.state()}
        if self.process.leads:
            facts = {"settings": self.settings, "finished": finished, "best": self.best, "replaced": self.replaced}
            keep = self.run.train.keep_checkpoints
            self.writer.write(functools.partial(checkpoint.save, self.folder, self.step, state, facts, keep))

    def _finish_writing(self) -> None:
        """Wait, in every process, until the first has written all: the others must not leave, and so end the job, before."""
        self.writer.finish()
        agree(self.process)

    def _keep_best(self, found: dict[str, float]) -> None:
        """Write the model beside the checkpoints when it validates better than all before it."""
        metric = next((name for name in found if name.startswith("val_sorting")), None)
        metric = metric or next((name for name in found if name.startswith("val_t2v")), None)
        if metric is None or (self.best and found[metric] <= self.best["value"]):
            return
        self.best = {"step": self.step, "metric": metric, "value": found[metric]}
        weights = whole_weights(self.model)
        if self.process.leads:
            self.writer.write(functools.partial(self._write_best, self._best_folder(self.step), weights))

    def _best_folder(self, step: int) -> Path:
        return self.folder / f"best-{step:08d}"

    def _write_best(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """The folder appears whole; the one it betters goes."""
        temporary = self.folder / f".{folder.name}"
        self._write_model(temporary, weights)
        for older in self.folder.glob("best-*"):
            shutil.rmtree(older)
        temporary.rename(folder)

    def _write_model(self, folder: Path, weights: dict[str, Tensor]) -> None:
        with torch.device("meta"):
            plain = TVTSModel(self.model.config)  # sharding makes another class of the one that trains
        plain.save_pretrained(folder, state_dict=weights)
        self.processor.save_pretrained(folder)

    def _line(self, record: dict[str, float], remaining: float) -> str:
        losses = "  ".join(
            f"{name} {record[name]:.3f}" for name in ("loss", "contrastive", "sorting") if name in record
        )
        mfu = f"  MFU {100 * record['mfu']:.0f} %" if "mfu" in record else ""
        return (
            f"step {self.step}/{self.plan.total}  {losses}  lr x{self._rate():.2f}  {record['clips_per_second']:.0f} clips/s{mfu}  "
            f"data wait {100 * record['data_wait']:.0f} %  {remaining / 60:.1f} min left"
        )


def _plan(run: Run, rows: int, turns: int, world: int) -> Plan:
    """`rows` of the first dataset, which gets one of `turns` steps."""
    assert run.data is not None
    if run.data.batch_size % (world * run.launch.accumulate):
        raise UserError(
            f"data.batch_size: {run.data.batch_size} clips cannot be shared by {world} processes with launch.accumulate = "
            f"{run.launch.accumulate}; take a multiple of {world * run.launch.accumulate}"
        )
    steps_per_epoch = run.train.steps_per_epoch or turns * steps_per_pass(rows, run.data.batch_size)
    return Plan(steps_per_epoch, run.train.epochs * steps_per_epoch, run.train.validate_every or steps_per_epoch)


def _seed(seed: int) -> None:
    """Seed what initialises new parameters; samples do not use these generators."""
    random.seed(seed)
    torch.manual_seed(seed)
