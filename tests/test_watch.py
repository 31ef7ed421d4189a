"""A watched command: its progress is read, its exit status kept, its errors shown."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tvts.watch import Watched, _live, last_line, watch


def test_progress_and_active_logs(tmp_path: Path) -> None:
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain" / "b16.log").write_text("step 1\rstep 2\n\n", encoding="utf-8")
    watched = Watched([sys.executable, "-c", "print('3 of 12 steps (25%) done')"], tmp_path / "snakemake.log")
    watched.process.wait()
    watched.reader.join()
    assert (watched.done, watched.total) == (3, 12)
    assert watched.active(tmp_path) == [("pretrain/b16", "step 2")]


def test_a_log_line_is_shown_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    (tmp_path / "job.log").write_text("[/red] is no markup [bold]\n", encoding="utf-8")
    screen = io.StringIO()
    console = Console(force_terminal=True, width=80, height=20, file=screen)
    command = [sys.executable, "-c", "import time; time.sleep(3)"]
    _live(console, Watched(command, tmp_path / "snakemake.log"), tmp_path)
    assert "[/red] is no markup [bold]" in screen.getvalue()


def test_failure_is_passed_on_with_the_end_of_the_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch([sys.executable, "-c", "import sys; print('Error in rule plan'); sys.exit(3)"], tmp_path) == 3
    printed = capsys.readouterr()
    assert "failed after" in printed.out
    assert "Error in rule plan" in printed.err


def test_last_line_of_a_live_line(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"first\nstep 1/9\r\x1b[Kstep 2/9")
    assert last_line(log).endswith("step 2/9")
