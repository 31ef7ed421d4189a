"""The training loop: one function per step of it, no distributed or file detail inside."""

import contextlib
import math
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import CLIPTokenizer

from tvts.config import UserError
from tvts.config.errors import for_people
from tvts.config.resolve import identity
from tvts.config.schema import Run
from tvts.corpus.media.read import Reader
from tvts.files import write_json
from tvts.model import from_clip
from tvts.model.processing import PIXELS, TVTSProcessor, normalize_frames
from tvts.model.tuning import group_table, set_trainable
from tvts.objectives import sorting_accuracy, tvts_loss
from tvts.train import checkpoint
from tvts.train.data import Collate, FixedWindows, GlobalBatches, Source, TrainingSet, loader, steps_per_pass
from tvts.train.distributed import Process, any_process
from tvts.train.metrics import Metrics, show
from tvts.train.optim import build_optimizer, rate, set_rate


class Stopped(UserError):
    """The trainer was asked to stop, or ran out of time, and saved its state."""

    status = 75


@dataclass
class Plan:
    """Length of a run in steps."""

    steps_per_epoch: int
    total: int
    validate_every: int


@dataclass
class Meter:
    """Sums of device values and of waiting time since the last record; read out without a stall per step."""

    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """`sums` and `counts` belong to the state of training: a run that continues writes the same records."""
    clips: int = 0
    waited: float = 0.0
    since: float = field(default_factory=time.perf_counter)

    def add(self, losses: dict[str, torch.Tensor], clips: int) -> None:
        """Count one step."""
        self.clips += clips
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Means since the last reading, with clips per second and the share of time spent waiting for data."""
        seconds = time.perf_counter() - self.since
        means = {name: value.item() / self.counts[name] for name, value in self.sums.items()}
        timing = {"clips_per_second": self.clips / seconds, "data_wait": self.waited / seconds}
        self.sums, self.counts = {}, {}
        self.clips, self.waited, self.since = 0, 0.0, time.perf_counter()
        return means | timing


class Trainer:
    """Trains one run to its end, continuing from the newest checkpoint in `folder`."""

    def __init__(
        self, run: Run, sources: list[Source], data_sha256: str, folder: Path, process: Process, reader: Reader
    ) -> None:
        assert run.data is not None
        self.run, self.data, self.sources, self.folder, self.process = run, run.data, sources, folder, process
        self.settings = identity(run) | {"data_sha256": data_sha256}
        _seed(run.seed)
        with for_people():
            self.model = from_clip(
                run.model.clip,
                num_frames=run.model.frames,
                mask_ratio=run.model.mask_ratio,
                clip_style=run.model.style,
                sorter_layers=run.model.sorter_layers,
                num_transcripts=max(source.settings.segments for source in sources),
                temporal_embedding_std=run.model.temporal_embedding_std,
                temporal_attention_init=run.model.temporal_attention,
            ).to(process.device)
            set_trainable(
                self.model,
                run.text.frozen_blocks,
                train_embeddings=run.text.train_embeddings,
                train_final=run.text.train_final,
            )
        text, vision = self.model.config.text_config, self.model.config.vision_config
        self.image_size = vision.image_size
        self.processor = TVTSProcessor(
            CLIPTokenizer.from_pretrained(run.model.clip),
            image_size=self.image_size,
            pixels=self.data.pixels,
            context_length=text.max_position_embeddings,
        )
        self.optimizer = build_optimizer(self.model, run.optim)
        if process.leads:
            for group, parameters, lr, decay in group_table(self.model, self.optimizer.param_groups):
                show(f"{group:24} {parameters:>12,} parameters  lr {lr:g}  decay {decay:g}", last=True)
        self.sets = [TrainingSet(source, run, self.model.config, reader) for source in sources]
        self.fixed = [
            FixedWindows(source, run.model.frames, self.image_size, reader)
            for source in sources
            if source.settings.text == "transcript"
        ]
        self.plan = _plan(run, len(self.sets[0]))
        self.forward = self._wrap()
        self.collate = Collate(self.processor)
        self.stop = False
        self.meter = Meter()
        self.seen, self.replaced = 0, 0
        self.step = 0

    def train(self, minutes: float | None = None) -> dict[str, float]:
        """Train to the end; returns the last validation's metrics.

        Raises Stopped after saving when SIGTERM arrives or `minutes` are almost over, UserError when the loss is no longer a number.
        """
        deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes - min(120.0, 6 * minutes)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        self._resume()
        metrics = Metrics(self.folder / "metrics.jsonl", self.step) if self.process.leads else None
        saved = began = time.monotonic()
        first, meter = self.step, self.meter
        last = self.validate() if self.step == self.plan.total else {}
        for batches in self._batches():
            losses = self._optimise(batches)
            self.step += 1
            meter.add(losses, sum(len(batch["keys"]) for batch in batches.values()) * self.process.world)
            self._count(batches)
            done = self.step == self.plan.total
            if self.step % self.run.train.log_every == 0 or done:
                record = meter.read()
                self._check(record, batches)
                if metrics:
                    metrics.append(self.step, epoch=self.step / self.plan.steps_per_epoch, lr=self._rate(), **record)
                    pace = (time.monotonic() - began) / (self.step - first)
                    show(self._line(record, pace * (self.plan.total - self.step)), last=done)
            if self.step % self.plan.validate_every == 0 or done:
                paused = time.perf_counter()
                last = self.validate()
                meter.since += time.perf_counter() - paused
                if metrics:
                    metrics.append(self.step, epoch=self.step / self.plan.steps_per_epoch, **last)
            if any_process(self.stop or time.monotonic() > deadline, self.process) and not done:
                self._save()
                if self.process.world > 1:
                    dist.barrier()  # the others must not leave, and so end the job, while the first still writes
                reason = "asked to stop" if self.stop else "out of time"
                raise Stopped(f"{reason}: saved step {self.step} of {self.plan.total}; the same command continues")
            if done or time.monotonic() - saved > 60 * self.run.train.checkpoint_minutes:
                self._save()
                saved = time.monotonic()
        return last

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Sorting accuracy and retrieval on the fixed held-out windows, in percent; the first process alone measures."""
        if not self.process.leads or not self.fixed:
            return {}
        self.model.eval()
        outputs, positions = [], []
        for fixed in self.fixed:
            for batch in loader(fixed, None, self.collate, workers=0):
                with self._autocast():
                    outputs.append(self.model(*self._inputs(batch)))
                positions.append(batch["positions"].to(self.process.device))
        self.model.train()
        video = nn.functional.normalize(torch.cat([output.video_embeds for output in outputs]).float(), dim=-1)
        text = nn.functional.normalize(torch.cat([output.text_embeds for output in outputs]).float(), dim=-1)
        ranks = (text @ video.T).argsort(dim=-1, descending=True).argsort(dim=-1).diagonal()
        result = {"val_windows": float(len(video)), "val_t2v_R@1": 100 * (ranks == 0).float().mean().item()}
        if outputs[0].order_logits is not None:
            logits = torch.cat([output.order_logits for output in outputs]).float()
            each, whole = sorting_accuracy(logits, torch.cat(positions))
            result |= {"val_sorting": 100 * float(each), "val_sorting_all": 100 * float(whole)}
        return result

    def export(self, output: Path, card: Path, facts: dict[str, Any]) -> None:
        """Write the model with its processor, and the card that vouches for it."""
        self.model.save_pretrained(output)
        self.processor.save_pretrained(output)
        write_json(card, facts | {"step": self.step})

    def _batches(self) -> Iterator[dict[int, dict[str, Any]]]:
        """For each remaining step the batches that belong to it: one per source, or one source in turn when alternating."""
        alternating = self.data.mixing == "alternating" and len(self.sets) > 1
        sources = len(self.sets) if alternating else 1
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
            chosen = [step % sources] if alternating else list(streams)
            batches = {number: next(streams[number]) for number in chosen}
            self.meter.waited += time.perf_counter() - began
            yield batches

    def _optimise(self, batches: dict[int, dict[str, Any]]) -> dict[str, torch.Tensor]:
        """One optimiser step on the sum of the losses of `batches`."""
        set_rate(self.optimizer, self._rate())
        self.optimizer.zero_grad(set_to_none=True)
        logged: dict[str, torch.Tensor] = {}
        for number, batch in batches.items():
            with self._autocast():
                output = self.forward(*self._inputs(batch))
            losses = tvts_loss(
                output,
                batch["positions"].to(self.process.device, non_blocking=True),
                contrastive_weight=self.run.objective.contrastive_weight,
                sorting_weight=self.run.objective.sorting_weight,
                temperature=self.run.objective.temperature,
            )
            losses["loss"].backward()
            suffix = f"/{self.sources[number].name}" if len(self.sources) > 1 else ""
            logged["loss"] = logged.get("loss", 0.0) + losses["loss"].detach()
            logged |= {f"contrastive{suffix}": losses["contrastive"], f"sorting{suffix}": losses["sorting"]}
        if self.run.optim.clip_gradient is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.run.optim.clip_gradient)
        self.optimizer.step()
        return logged

    def _inputs(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """uint8 frames travel to the device and are normalised there."""
        device = self.process.device
        frames = batch["frames"].to(device, non_blocking=True)
        statistics = PIXELS[self.data.pixels]
        video = normalize_frames(frames, statistics.mean, statistics.std)
        keep = None if batch["keep"] is None else batch["keep"].to(device, non_blocking=True)
        return video, keep, batch["input_ids"].to(device, non_blocking=True)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.run.train.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.process.device.type, dtype=torch.bfloat16)

    def _wrap(self) -> nn.Module:
        if self.run.train.activation_checkpointing:
            self.model.activation_checkpointing_enable()
        if self.run.train.compile and self.process.device.type == "cuda":
            for block in self.model.blocks():
                block.compile()
        if self.process.world == 1:
            return self.model
        return DistributedDataParallel(self.model, find_unused_parameters=len(self.sources) > 1)

    def _rate(self) -> float:
        return rate(self.run.optim, self.step, self.plan.steps_per_epoch, self.plan.total)

    def _resume(self) -> None:
        found = checkpoint.load_latest(self.folder, self.settings, show)
        if found is None:
            return
        state, facts = found
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.meter.sums = {name: value.to(self.process.device) for name, value in state["sums"].items()}
        self.meter.counts = state["counts"]
        self.step = facts["step"]
        if self.process.leads:
            show(f"continuing at step {self.step} of {self.plan.total}", last=True)

    def _save(self) -> None:
        if self.process.leads:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "sums": self.meter.sums,
                "counts": self.meter.counts,
            }
            checkpoint.save(self.folder, self.step, state, {"settings": self.settings}, self.run.train.keep_checkpoints)

    def _check(self, record: dict[str, float], batches: dict[int, dict[str, Any]]) -> None:
        if not math.isfinite(record["loss"]):
            keys = ", ".join(key for batch in batches.values() for key in batch["keys"][:8])
            raise UserError(
                f"step {self.step}: the loss is {record['loss']}; last batch began with clips {keys}; "
                "lower optim.lr_new or set optim.clip_gradient"
            )

    def _count(self, batches: dict[int, dict[str, Any]]) -> None:
        """Stop when too many clips cannot be read."""
        self.seen += sum(len(batch["keys"]) for batch in batches.values())
        self.replaced += sum(batch["replaced"] for batch in batches.values())
        if self.replaced > max(1.0, self.data.max_corrupt_share * self.seen):
            raise UserError(
                f"step {self.step}: {self.replaced} of {self.seen} clips could not be read, more than data.max_corrupt_share = "
                f"{self.data.max_corrupt_share}; see the lines above for their keys, and build those shards again"
            )

    def _line(self, record: dict[str, float], remaining: float) -> str:
        losses = "  ".join(
            f"{name} {record[name]:.3f}" for name in ("loss", "contrastive", "sorting") if name in record
        )
        return (
            f"step {self.step}/{self.plan.total}  {losses}  lr x{self._rate():.2f}  {record['clips_per_second']:.0f} clips/s  "
            f"data wait {100 * record['data_wait']:.0f} %  {remaining / 60:.1f} min left"
        )


def _plan(run: Run, rows: int) -> Plan:
    assert run.data is not None
    steps_per_epoch = run.train.steps_per_epoch or steps_per_pass(rows, run.data.batch_size)
    return Plan(steps_per_epoch, run.train.epochs * steps_per_epoch, run.train.validate_every or steps_per_epoch)


def _seed(seed: int) -> None:
    """Seed what initialises new parameters; samples do not use these generators."""
    random.seed(seed)
    torch.manual_seed(seed)
