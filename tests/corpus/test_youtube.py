"""A rate that all jobs share, and tools that are checked before they are needed."""

import multiprocessing
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest

from tvts.commands import corpus as commands
from tvts.config import Corpus, UserError
from tvts.corpus import youtube
from tvts.corpus.youtube import Turnstile, check_tools


def take(path: Path, per_hour: float, count: int) -> None:
    for _ in range(count):
        Turnstile(path, per_hour).wait(threading.Event())


def test_turns_are_spaced_over_processes(tmp_path: Path) -> None:
    """12 turns taken by 3 processes end no sooner than 11 pauses after the first."""
    began = time.time()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=take, args=(tmp_path / "rate", 3600 / 0.03, 4)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert time.time() - began >= 11 * 0.03
    assert float((tmp_path / "rate").read_text()) >= began + 12 * 0.03


class Slept(threading.Event):
    """Sleeps no time, but notes how long it was told to."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return False


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(youtube, "time", SimpleNamespace(time=lambda: 5000.0))


@pytest.mark.usefixtures("stopped_clock")
def test_waiting_long_enough_costs_nothing(tmp_path: Path) -> None:
    slept = Slept()
    (tmp_path / "rate").write_text("1000.0")
    Turnstile(tmp_path / "rate", 720).wait(slept)
    Turnstile(tmp_path / "rate", 720).wait(slept)
    assert slept.seconds == [0, 5]


@pytest.mark.usefixtures("stopped_clock")
def test_a_pause_holds_for_every_job(tmp_path: Path) -> None:
    slept = Slept()
    Turnstile(tmp_path / "rate", 720).wait(slept)
    Turnstile(tmp_path / "rate", 720).pause()
    Turnstile(tmp_path / "rate", 720).wait(slept)
    assert slept.seconds == [0, 1800]
    Turnstile(tmp_path / "rate", 720).pause()
    assert float((tmp_path / "rate").read_text()) == 5000 + 1800 + 5, "a later turn stays as late"


def test_who_stops_does_not_wait_for_a_turn(tmp_path: Path) -> None:
    (tmp_path / "rate").write_text(repr(time.time() + 1000))
    stopping = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Turnstile(tmp_path / "rate", 720).wait, stopping)
        stopping.set()
        waiting.result(timeout=30)


def test_missing_tools_are_told_before_anything_is_planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="no JavaScript runtime found; install deno or node"):
        check_tools()
    (tmp_path / "ids.txt").write_text("dQw4w9WgXcQ\n")
    settings = Corpus(source="youtube", list=str(tmp_path / "ids.txt"), shards=1).model_dump_json()
    with pytest.raises(UserError, match="no JavaScript runtime found"):
        commands.plan(settings, tmp_path / "plan.parquet")
    assert not (tmp_path / "plan.parquet").exists()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(youtube, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="yt-dlp-ejs is missing"):
        check_tools()
    monkeypatch.setattr(youtube, "find_spec", lambda name: ModuleSpec(name, None))
    check_tools()
    commands.plan(settings, tmp_path / "plan.parquet")
    assert (tmp_path / "plan.parquet").exists()
