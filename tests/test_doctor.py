"""The doctor finds what is missing and says what to do; version and completion work as a command of one's shell expects."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tvts import doctor, version

FIXES: dict[str, tuple[str, str]] = {
    "GPU": ("problem", "install the build for its CUDA"),
    "YouTube": ("note", "install deno or node or bun or quickjs"),
    "SLURM": ("problem", "ask your site"),
    "MLflow": ("problem", "move results/mlflow.db away"),
    "disk": ("problem", "free at least"),
}


def findings(results: Path) -> dict[str, doctor.Finding]:
    return {finding.subject: finding for finding in doctor.examine(results)}


def test_this_machine_can_run_the_demo(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert [found[subject].state for subject in ("Python", "Snakemake", "FFmpeg", "MLflow")] == ["ok"] * 4
    for finding in found.values():
        assert finding.state == "ok" or finding.fix, finding
        assert finding.found and "\n" not in finding.found


def test_each_trouble_has_its_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    Path("results/mlflow.db").write_text("not a database, but long enough to be read as one", encoding="utf-8")
    there = {"nvidia-smi": "/bin/nvidia-smi", "sbatch": "/bin/sbatch"}
    monkeypatch.setattr(shutil, "which", there.get)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    found = findings(Path("results"))
    assert {subject: found[subject].state for subject in FIXES} == {
        subject: state for subject, (state, _) in FIXES.items()
    }
    for subject, (_, fix) in FIXES.items():
        assert fix in found[subject].fix


def test_a_store_is_counted(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("CREATE TABLE runs (id)")
        connection.execute("INSERT INTO runs VALUES (1)")
    assert "1 runs in" in findings(tmp_path)["MLflow"].found


def test_codecs_and_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "ENCODERS", ("libx264", "nosuchcodec"))
    assert "without encoder nosuchcodec" in findings(tmp_path)["FFmpeg"].found
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    answer = subprocess.CompletedProcess([], 0, stdout="debug*\ngpu\n", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert "partitions debug*, gpu;" in findings(tmp_path)["SLURM"].found
    answer.returncode, answer.stderr = 1, "slurm_load_partitions: Unable to contact slurm controller\nmore"
    assert findings(tmp_path)["SLURM"].found == "slurm_load_partitions: Unable to contact slurm controller"


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tvts", *arguments], env=os.environ | environment, capture_output=True, text=True, check=False
    )  # fmt: skip


def test_version_names_the_commit_of_the_checkout() -> None:
    head = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )  # fmt: skip
    told = command("--version").stdout
    if head.returncode == 0:
        assert f"(commit {head.stdout.strip()}" in told
    else:
        assert "(commit unknown)" in told


def test_version_of_a_package_installed_from_a_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        version = "1.2.3"

        def read_text(self, _: str) -> str:
            return json.dumps({"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}})

    def no_git(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(version, "distribution", lambda _: Installed())
    monkeypatch.setattr(subprocess, "run", no_git)
    assert version.version() == "1.2.3 (commit 0123456789ab)"


def test_a_package_in_somebody_elses_repository_does_not_take_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(version, "HERE", tmp_path)
    assert version._git("ls-files", "--error-unmatch", "version.py") is None


def test_shell_completion() -> None:
    words = {"_TVTS_COMPLETE": "complete_bash", "COMP_WORDS": "tvts sea", "COMP_CWORD": "1"}
    script = Path(sys.executable).with_name("tvts")
    told = subprocess.run([script], env=os.environ | words, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["search"]
