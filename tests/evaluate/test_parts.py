"""Frozen video features: killed and continued, shared by processes, encoded again only where something changed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evaluate.conftest import FRAMES, make_videos

from tvts.config import Benchmark, Evaluation, Run
from tvts.evaluate import parts
from tvts.evaluate.embed import embed
from tvts.evaluate.features import read_features

VIDEOS = 120
EVALUATION = Evaluation(device="cpu", batch_size=2)


@pytest.fixture
def captions(tmp_path: Path, bench: Callable[..., Benchmark]) -> Benchmark:
    make_videos(tmp_path / "videos", ["0.mp4", "1.mp4"])
    for number in range(2, VIDEOS):
        shutil.copy(tmp_path / f"videos/{number % 2}.mp4", tmp_path / f"videos/{number}.mp4")
    (tmp_path / "t").mkdir()
    rows = [f"{number}.mp4,thing {'abcdefghijklmnopqrstuvwxyz'[number % 26]}" for number in range(VIDEOS)]
    (tmp_path / "t/test.csv").write_text("\n".join(["path,text", *rows]))
    return bench("table", "t", ["retrieval"])


@pytest.fixture
def command(captions: Benchmark, tvts_folder: Path, make_run: Callable[..., Run], tmp_path: Path) -> list[str]:
    """`tvts embed-benchmark` without its output."""
    (tmp_path / "config.json").write_text(make_run().model_dump_json())
    return [
        sys.executable, "-m", "tvts", "embed-benchmark", str(tmp_path / "config.json"), "--model", str(tvts_folder),
        "--settings", captions.model_dump_json(), "--evaluation", EVALUATION.model_dump_json(),
    ]  # fmt: skip


def here(captions: Benchmark, model: Path, output: Path, evaluation: Evaluation = EVALUATION) -> bytes:
    cache = output.parents[1] / "cache"
    embed(model, "tvts", captions, evaluation, FRAMES, "pyav", output, cache, log=lambda line: None)
    return output.read_bytes()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that were read."""
    names: list[str] = []
    load = parts.load_videos

    def counting(paths: list[Path], *rest: object) -> object:
        names.extend(path.name for path in paths)
        return load(paths, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(parts, "load_videos", counting)
    return names


def test_a_killed_job_continues_where_it_was(
    command: list[str], captions: Benchmark, tvts_folder: Path, tmp_path: Path, read: list[str]
) -> None:
    cache, output = tmp_path / "cache", tmp_path / "run/words.safetensors"
    with subprocess.Popen([*command, "--output", str(output), "--cache", str(cache)], stdout=subprocess.DEVNULL) as job:
        while len(list(cache.glob("[!.]*"))) < 2:
            assert job.poll() is None
            time.sleep(0.002)
        os.kill(job.pid, signal.SIGKILL)
    done = {path: path.stat().st_mtime_ns for path in cache.glob("[!.]*")}
    assert 2 <= len(done) < VIDEOS / 2 and not output.exists()
    continued = here(captions, tvts_folder, output)
    assert len(read) == VIDEOS - 2 * len(done)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert continued == here(captions, tvts_folder, tmp_path / "elsewhere/run/words.safetensors")


def test_two_processes_leave_the_bytes_of_one(
    command: list[str], captions: Benchmark, tvts_folder: Path, tmp_path: Path
) -> None:
    shared, cache = tmp_path / "shared/run/words.safetensors", tmp_path / "of two"
    arguments = ["--output", str(shared), "--cache", str(cache), "--processes", "2", "--threads", "2"]
    job = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert f"words videos {VIDEOS // 2}/{VIDEOS // 2}" in job.stdout
    assert f"words videos (process 2) {VIDEOS // 2}/{VIDEOS // 2}" in job.stdout
    assert shared.read_bytes() == here(captions, tvts_folder, tmp_path / "alone/run/words.safetensors")


def test_only_what_changed_is_encoded_again(
    captions: Benchmark, tvts_folder: Path, clip_folder: Path, tmp_path: Path, read: list[str]
) -> None:
    output = tmp_path / "run/words.safetensors"
    here(captions, tvts_folder, output)
    assert len(read) == VIDEOS
    read.clear()
    here(
        captions, tvts_folder, tmp_path / "other-run/words.safetensors", EVALUATION.model_copy(update={"prompt": "{}"})
    )
    assert read == []
    video = Path(captions.videos) / "5.mp4"
    video.unlink()
    here(captions, tvts_folder, output)
    assert read == ["4.mp4", "5.mp4"]  # its batch
    assert read_features(output).about["coverage"]["missing"] == 1
    read.clear()
    here(captions, tvts_folder, output, EVALUATION.model_copy(update={"pixels": "clip"}))
    assert len(read) == VIDEOS
    read.clear()
    other = tmp_path / "other model"
    shutil.copytree(tvts_folder, other)
    (other / "note.txt").write_text("another model")
    here(captions, other, output)
    assert len(read) == VIDEOS
