"""Runs the real Snakemake on the real Snakefile in a folder of a test's own."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def snakemake(
    folder: Path,
    *arguments: str,
    overlay: dict[str, Any] | None = None,
    check: bool = True,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `snakemake` with `folder` as working directory; `overlay` is laid over config.yaml (and over the demo's, when it names it)."""
    run = subprocess.run(
        _command(folder, arguments, overlay),
        env=_environment() | (environment or {}),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if check:
        assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    return run


def start_snakemake(folder: Path, *arguments: str, overlay: dict[str, Any] | None = None) -> subprocess.Popen[bytes]:
    """As `snakemake`, but does not wait for it; what it says goes to `snakemake.log` in `folder`."""
    with open(folder / "snakemake.log", "ab") as log:
        command = _command(folder, arguments, overlay)
        return subprocess.Popen(command, env=_environment(), cwd=folder, stdout=log, stderr=log)


def _command(folder: Path, arguments: tuple[str, ...], overlay: dict[str, Any] | None) -> list[str]:
    configs: list[str] = []
    if overlay is not None:
        overlay = dict(overlay)
        demo = [str(ROOT / "demo" / "config.yaml")] if overlay.pop("demo", False) else []
        file = folder / "overlay.yaml"
        file.write_text(yaml.safe_dump(overlay), encoding="utf-8")
        configs = ["--configfile", *demo, str(file)]
    return [
        sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile"), "--directory", str(folder),
        "--cores", "2", *arguments, *configs,
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def job_counts(run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Jobs per rule of a dry run; empty when nothing is to be done."""
    text = run.stdout + run.stderr
    if "Job stats:" not in text:
        return {}
    table = text.split("Job stats:")[-1].split("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}
