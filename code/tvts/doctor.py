"""`tvts doctor`: what this machine has of what the project can use, and a way to get each thing that is missing."""

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

import av
import torch

from tvts.corpus.status import one_line
from tvts.corpus.youtube import JS_RUNTIMES

PYTHON = (3, 11)
ENCODERS, DECODERS = ("libx264", "aac"), ("h264", "hevc", "vp9", "libdav1d")
DISK_GB, DEMO_GB = 100, 3
SLURM_COMMANDS = ("sbatch", "srun", "sacct", "scancel")
SLURM_SECONDS = 20


class Finding(NamedTuple):
    """`ok`; `note`: something that only some uses need is missing; `problem`: something all need. `fix` says what to do."""

    state: Literal["ok", "note", "problem"]
    subject: str
    found: str
    fix: str = ""


def examine(results: Path = Path("results")) -> Iterator[Finding]:
    """All findings about this machine, this environment and the results folder."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python, _snakemake, _torch, _ffmpeg, _decord, _youtube, _slurm, lambda: _mlflow(results), lambda: _disk(results),
    )  # fmt: skip
    return (check() for check in checks)


def _python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < PYTHON:
        return Finding("problem", "Python", found, "make the environment with Python 3.11 or later: make PYTHON=...")
    return Finding("ok", "Python", found)


def _snakemake() -> Finding:
    try:
        found = version("snakemake")
    except PackageNotFoundError:
        return Finding("problem", "Snakemake", "not installed", "pip install 'snakemake>=9.27'")
    return Finding("ok", "Snakemake", found)


def _torch() -> Finding:
    found = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        return Finding("ok", "GPU", f"{found}, {names}")
    if shutil.which("nvidia-smi"):
        fix = "the driver is there but this PyTorch cannot use it: install the build for its CUDA (pytorch.org)"
        return Finding("problem", "GPU", f"{found}, no GPU seen", fix)
    return Finding("note", "GPU", f"{found}, none", "the demo and searching need none; the paper's runs do")


def _ffmpeg() -> Finding:
    found = f"PyAV {av.__version__} with libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"
    missing = [f"encoder {name}" for name in ENCODERS if not _has_codec(name, "w")]
    missing += [f"decoder {name}" for name in DECODERS if not _has_codec(name, "r")]
    if missing:
        fix = "take PyAV's own wheel, which carries all of them: pip install --force-reinstall --only-binary av av"
        return Finding("problem", "FFmpeg", f"{found}, without {', '.join(missing)}", fix)
    return Finding("ok", "FFmpeg", found)


def _decord() -> Finding:
    try:
        import decord
    except (ImportError, OSError) as error:
        found = f"cannot be loaded: {next(iter(str(error).splitlines()), '')}"
        return Finding(
            "note", "decord", found, "keep `media: {reader: pyav}`, the default; its wheels are for x86-64 alone"
        )
    return Finding("ok", "decord", decord.__version__)


def _youtube() -> Finding:
    try:
        found = f"yt-dlp {version('yt-dlp')}"
        version("yt-dlp-ejs")
    except PackageNotFoundError as error:
        return Finding("problem", "YouTube", f"{error.name} is not installed", "pip install 'yt-dlp[default]'")
    runtime = next((name for name in JS_RUNTIMES if shutil.which(name)), None)
    if runtime is None:
        fix = f"for `source: youtube` alone: install {' or '.join(JS_RUNTIMES)} where downloads run"
        return Finding("note", "YouTube", f"{found}, no JavaScript runtime", fix)
    return Finding("ok", "YouTube", f"{found}, {runtime}")


def _slurm() -> Finding:
    missing = [name for name in SLURM_COMMANDS if not shutil.which(name)]
    if len(missing) == len(SLURM_COMMANDS):
        return Finding("note", "SLURM", "none", "for `--profile slurm` alone: run it on a login node of your cluster")
    if missing:
        return Finding("problem", "SLURM", f"without {', '.join(missing)}", "ask your site for SLURM's client commands")
    try:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format=%P"], capture_output=True, text=True, timeout=SLURM_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("problem", "SLURM", f"sinfo: {error}", "its controller does not answer: wait, or ask your site")
    if answer.returncode:
        return Finding(
            "problem",
            "SLURM",
            one_line(answer.stderr.partition("\n")[0]),
            "its controller does not answer: wait, or ask your site",
        )
    partitions = ", ".join(answer.stdout.split())
    return Finding("ok", "SLURM", f"partitions {partitions}; set yours in workflow/profiles/slurm/config.yaml")


def _mlflow(results: Path) -> Finding:
    try:
        found = version("mlflow")
    except PackageNotFoundError:
        return Finding("problem", "MLflow", "not installed", "pip install 'mlflow>=3.17,<4'")
    store = results / "mlflow.db"
    if not store.exists():
        return Finding("ok", "MLflow", f"{found}, no runs yet")
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        fix = f"move {store} away and import again: tvts track --config {results}/report/config.json"
        return Finding("problem", "MLflow", f"{found}, {store}: {error}", fix)
    return Finding("ok", "MLflow", f"{found}, {runs} runs in {store}")


def _disk(results: Path) -> Finding:
    place = results if results.exists() else Path()
    free = shutil.disk_usage(place).free / 1e9
    found = f"{free:.0f} GB free in {place.resolve()}"
    if not os.access(place, os.W_OK):
        return Finding("problem", "disk", f"{place.resolve()} cannot be written", "work in a folder of your own")
    if free < DEMO_GB:
        return Finding("problem", "disk", found, f"free at least {DEMO_GB} GB for the demo")
    if free < DISK_GB:
        return Finding("note", "disk", found, "enough for the demo; corpora need more, see docs/scale.md")
    return Finding("ok", "disk", found)


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.codec.Codec(name, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True
