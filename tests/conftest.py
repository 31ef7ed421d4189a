"""Fixtures that several parts share: a tiny CLIP folder and small real videos."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from tests.slurm.cluster import cgroups_writable
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP as `save_pretrained` writes it: 2 blocks of width 32, 32 px in patches of 16, one token per letter."""
    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=77)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = tower | {
        "vocab_size": len(words),
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    vision = tower | {"image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_video(path: Path, frames: np.ndarray, fps: int = 8) -> Path:
    """Encode uint8 RGB [N, H, W, 3] as H.264 mp4 with a keyframe every 4 frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"g": "4", "crf": "10", "bf": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which signal rules the SLURM tests have seen."""
    if any("tests/slurm/" in report.nodeid for report in terminalreporter.getreports("passed")):
        terminalreporter.write_line(
            "SLURM tests: under proctrack/cgroup, where signals reach tasks alone, as on real clusters"
            if cgroups_writable()
            else "SLURM tests: control groups cannot be written here, so under proctrack/linuxproc, where signals reach all processes"
            " of a job; that SIGTERM reaches trainers under proctrack/cgroup was NOT tested"
        )
