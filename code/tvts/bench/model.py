"""Speed of the model: a training step beside explicit-softmax float32 of the same layers, FLOPs per clip and MFU."""

import statistics
import time
from collections.abc import Callable
from typing import Any, Literal, TypedDict

import torch
import transformers
from rich.console import Console
from rich.table import Table

from tvts.model import TVTSConfig, TVTSModel, set_trainable
from tvts.model.flops import Clips, peak_tflops, random_clips, training_gflop
from tvts.objectives import tvts_loss

B_TEXT = {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2048}
B_VISION = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
H_TEXT = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
H_VISION = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "intermediate_size": 5120}
GELU = {"hidden_act": "gelu"}

SIZES: dict[str, dict[str, Any]] = {
    "b32": {"text_config": B_TEXT, "vision_config": B_VISION | {"patch_size": 32}},
    "b16": {"text_config": B_TEXT, "vision_config": B_VISION | {"patch_size": 16}, "mask_ratio": 0.5},
    "h14": {
        "text_config": H_TEXT | GELU,
        "vision_config": H_VISION | GELU | {"patch_size": 14},
        "projection_dim": 1024,
        "clip_style": "openclip",
        "mask_ratio": 0.7,
    },
}
"""The paper's models and mask ratios."""


class ModelBench(TypedDict):
    """One measurement. Times in seconds; None where it cannot be known on this device."""

    size: str
    batch: int
    frames: int
    mask_ratio: float
    device: str
    precision: str
    compile: bool
    parameters: int
    step_seconds: float
    explicit_seconds: float
    ratio: float
    clips_per_second: float
    gflop_per_clip: float
    mfu: float | None
    peak_memory_gib: float | None
    versions: str


def bench_model(
    size: str = "b32",
    batch: int = 4,
    frames: int = 12,
    mask_ratio: float | None = None,
    device: str = "auto",
    precision: Literal["bf16", "fp32"] = "fp32",
    compile: bool = False,
    seconds: float = 20.0,
) -> ModelBench:
    """Time forward + backward of one size on random clips with K transcripts, the lower 3/4 of the text blocks frozen.

    The comparison runs the same layers with explicit softmax in float32, uncompiled, alternating with ours for about
    `seconds` in all; both figures are medians. `mask_ratio` defaults to the paper's. FLOPs count matrix products of one
    clip, backward included. Raises ValueError for an unknown size.
    """
    if size not in SIZES:
        raise ValueError(f"size: got {size!r}; allowed: {', '.join(SIZES)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: cuda was asked for, but PyTorch sees no GPU; use auto or cpu")
    settings: dict[str, Any] = {"num_frames": frames, **SIZES[size]}
    if mask_ratio is not None:
        settings["mask_ratio"] = mask_ratio
    config = TVTSConfig(**settings)
    torch.manual_seed(0)
    with torch.device(device):
        model = _trainable(config)
        clips = random_clips(config, batch)

    def ours() -> None:
        model.set_attn_implementation("sdpa")
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            _step(model, clips)

    def explicit() -> None:
        model.set_attn_implementation("eager")
        with torch.compiler.set_stance("force_eager"):
            _step(model, clips)

    if compile:
        for block in model.blocks():
            block.compile()
    ours_seconds, explicit_seconds = _alternate(ours, explicit, seconds)
    rate, gflop = batch / ours_seconds, training_gflop(config, frozen_blocks(config))
    peak = peak_tflops(precision) if device == "cuda" else None
    return {
        "size": size,
        "batch": batch,
        "frames": frames,
        "mask_ratio": config.mask_ratio,
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "precision": precision,
        "compile": compile,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "step_seconds": ours_seconds,
        "explicit_seconds": explicit_seconds,
        "ratio": explicit_seconds / ours_seconds,
        "clips_per_second": rate,
        "gflop_per_clip": gflop,
        "mfu": rate * gflop / 1e3 / peak if peak else None,
        "peak_memory_gib": _peak_memory_gib(ours) if device == "cuda" else None,
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
    }


def print_bench(result: ModelBench) -> None:
    """Print a measurement as a table."""
    table = Table(title=f"tvts bench model: {result['size']}", show_header=False)
    rows = {
        "clips": f"{result['batch']} x {result['frames']} frames, mask ratio {result['mask_ratio']}",
        "device": result["device"],
        "precision": result["precision"] + (", compiled blocks" if result["compile"] else ""),
        "parameters": f"{result['parameters'] / 1e6:,.1f} M",
        "forward + backward": f"{result['step_seconds'] * 1e3:,.1f} ms ({result['clips_per_second']:,.1f} clips/s)",
        "explicit softmax, fp32": f"{result['explicit_seconds'] * 1e3:,.1f} ms ({result['ratio']:.2f} x ours)",
        "FLOPs per clip": f"{result['gflop_per_clip']:,.1f} G (forward + backward)",
        "MFU": "peak of this device unknown" if result["mfu"] is None else f"{result['mfu']:.1%}",
        "peak memory": "-" if result["peak_memory_gib"] is None else f"{result['peak_memory_gib']:.1f} GiB",
        "versions": result["versions"],
    }
    for row in rows.items():
        table.add_row(*row)
    Console().print(table)


def _trainable(config: TVTSConfig) -> TVTSModel:
    model = TVTSModel(config).train()
    set_trainable(model, frozen_blocks(config))
    return model


def frozen_blocks(config: TVTSConfig) -> int:
    """The paper's choice: three quarters of the text tower."""
    return config.text_config.num_hidden_layers * 3 // 4


def _step(model: TVTSModel, clips: Clips) -> None:
    output = model(**clips)
    batch, transcripts = clips["input_ids"].shape[:2]
    positions = torch.arange(transcripts, device=clips["input_ids"].device).expand(batch, -1)
    tvts_loss(output, positions)["loss"].backward()
    model.zero_grad()


def _alternate(ours: Callable[[], None], other: Callable[[], None], seconds: float) -> tuple[float, float]:
    """Median seconds of both, run in turns after one warm-up each, at least three times."""
    times: tuple[list[float], list[float]] = ([], [])
    ours()
    other()
    deadline = time.perf_counter() + seconds
    while len(times[0]) < 3 or time.perf_counter() < deadline:
        for run, taken in zip((ours, other), times, strict=True):
            _wait()
            start = time.perf_counter()
            run()
            _wait()
            taken.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_memory_gib(run: Callable[[], None]) -> float:
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 2**30
