"""Speed of the whole training step, split into waiting for data, forward, backward and optimiser; on made batches or on real shards."""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypedDict

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from tvts.bench.model import SIZES, frozen_blocks
from tvts.config import Run, validate
from tvts.config.resolve import read_run
from tvts.corpus.media.read import Reader
from tvts.model import TVTSConfig, TVTSModel, set_trainable
from tvts.model.flops import peak_tflops, random_clips, training_gflop
from tvts.objectives import tvts_loss
from tvts.train.distributed import Process
from tvts.train.inputs import ToDevice
from tvts.train.loop import Trainer
from tvts.train.optim import build_optimizer
from tvts.train.parallel import clip_gradients, parallelize
from tvts.train.stage import source

WARM_UP = 3
"""Steps that are not counted: compilation, allocation, first reads."""
PHASES = ("data", "forward", "backward", "optimiser")


class TrainBench(TypedDict):
    """One measurement; None where it cannot be known on this device."""

    what: str
    batch: int
    steps: int
    precision: str
    device: str
    clips_per_second: float
    shares: dict[str, float]
    """Share of the step's time by phase."""
    mfu: float | None
    peak_memory_gib: float | None


def bench_synthetic(
    size: str, batch: int, steps: int, precision: Literal["bf16", "fp32"], compile_blocks: bool, device: torch.device
) -> TrainBench:
    """A step of one of the paper's sizes on clips that lie ready in host memory. Raises ValueError for an unknown size."""
    if size not in SIZES:
        raise ValueError(f"size: got {size!r}; allowed: {', '.join(SIZES)}")
    config = TVTSConfig(num_frames=12, **SIZES[size])
    torch.manual_seed(0)
    with device:
        model = TVTSModel(config).train()
    set_trainable(model, frozen_blocks(config))
    settings = {
        "model": {"preset": size, "clip": ""},
        "data": {"datasets": ["made"]},
        "train": {"precision": precision, "compile": compile_blocks},
    }
    run = validate(Run, settings, "run")
    forward = parallelize(model, run, Process(0, 1, 0, device))
    optimizer = build_optimizer(model, run.optim)
    ready = _made(config, batch, device.type == "cuda")
    step = Step(forward, optimizer, run, ToDevice(device, "clip"))
    times = [step(batches) for batches in [[ready]] * (WARM_UP + steps)][WARM_UP:]
    return _result(f"{size}, made batches", times, batch, run, device, training_gflop(config, frozen_blocks(config)))


def bench_run(
    config: Path, cards: list[Path], reader: Reader, steps: int, device: torch.device, running: str = "{}"
) -> TrainBench:
    """A step of the run in `config` on the shards behind `cards`, exactly as it would train when launched as `running` says."""
    run, process = read_run(config, running), Process(0, 1, 0, device)
    with TemporaryDirectory() as folder:
        trainer = Trainer(run, [source(card) for card in cards], "", Path(folder), process, reader)
    trainer.plan.total = WARM_UP + steps
    step = Step(trainer.forward, trainer.optimizer, run, trainer.to_device)
    times, stream = [], trainer.batches()
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        batches = list(next(stream).values())
        waited = time.perf_counter() - began
        taken = step(batches)
        times.append(taken | {"data": waited + taken["data"]})
    gflop = training_gflop(trainer.model.config, run.text.frozen_blocks)
    return _result(str(config), times[WARM_UP:], trainer.clips_per_step, run, device, gflop)


class Step:
    """One optimiser step, timed by phase: the device is waited for between phases, which training itself never does."""

    def __init__(self, forward: nn.Module, optimizer: torch.optim.Optimizer, run: Run, to_device: ToDevice) -> None:
        self.forward, self.optimizer, self.run, self.to_device = forward, optimizer, run, to_device
        self.trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def __call__(self, batches: list[dict[str, Any]]) -> dict[str, float]:
        """Seconds by phase; `data` is the copy to the device alone."""
        times = dict.fromkeys(PHASES, 0.0)
        self.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            clock = _clock()
            inputs = self.to_device(batch)
            times["data"] += next(clock)
            device = self.to_device.device.type
            with torch.autocast(device, dtype=torch.bfloat16, enabled=self.run.train.precision == "bf16"):
                output = self.forward(inputs["video"], inputs["keep_indices"], inputs["input_ids"])
            loss = tvts_loss(output, inputs["positions"])["loss"]
            times["forward"] += next(clock)
            loss.backward()
            times["backward"] += next(clock)
        clock = _clock()
        clip_gradients(self.trained, self.run.optim.clip_gradient)
        self.optimizer.step()
        times["optimiser"] += next(clock)
        return times


def _clock() -> Iterator[float]:
    """Seconds since the last question, all queued work included."""

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def laps(last: float) -> Iterator[float]:
        while True:
            current = now()
            yield current - last
            last = current

    return laps(now())


def _made(config: TVTSConfig, batch: int, pin: bool) -> dict[str, Any]:
    clips = random_clips(config, batch)
    made = {
        "frames": torch.randint(0, 256, clips["video"].shape, dtype=torch.uint8),
        "keep": clips["keep_indices"],
        "input_ids": clips["input_ids"],
        "positions": torch.arange(config.num_transcripts).expand(batch, -1).contiguous(),
    }
    return {name: tensor.pin_memory() if pin and tensor is not None else tensor for name, tensor in made.items()}


def _result(
    what: str, times: list[dict[str, float]], batch: int, run: Run, device: torch.device, gflop: float
) -> TrainBench:
    phases = {phase: sum(step[phase] for step in times) for phase in PHASES}
    total = sum(phases.values())
    rate, peak = batch * len(times) / total, peak_tflops(run.train.precision)
    cuda = device.type == "cuda"
    return {
        "what": what,
        "batch": batch,
        "steps": len(times),
        "precision": run.train.precision,
        "device": torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads",
        "clips_per_second": rate,
        "shares": {phase: seconds / total for phase, seconds in phases.items()},
        "mfu": rate * gflop / 1e3 / peak if peak else None,
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if cuda else None,
    }


def print_bench(result: TrainBench) -> None:
    """Print a measurement as a table."""
    table = Table(title=f"tvts bench train: {result['what']}", show_header=False)
    rows = {
        "device": f"{result['device']}, {result['precision']}",
        "clips per step": f"{result['batch']} ({result['steps']} steps)",
        "speed": f"{result['clips_per_second']:,.1f} clips/s",
        **{phase: f"{share:.1%} of the time" for phase, share in result["shares"].items()},
        "MFU": "peak of this device unknown" if result["mfu"] is None else f"{result['mfu']:.1%}",
        "peak memory": "-" if result["peak_memory_gib"] is None else f"{result['peak_memory_gib']:.1f} GiB",
    }
    for row in rows.items():
        table.add_row(*row)
    Console().print(table)
