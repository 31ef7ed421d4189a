"""A job that was interrupted or killed continues: nothing finished is redone, and the end is the same."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.corpus.conftest import GOOD, SETTINGS, Row, Site, by_id, make_plan, reply, run, videos_in

from tvts.config import UserError
from tvts.corpus import fetch as module
from tvts.corpus import worker
from tvts.corpus.status import Failure
from tvts.corpus.work import reopen
from tvts.files import sha256_file

pytestmark = pytest.mark.usefixtures("quick")


def count_calls(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """Ids handled; the call after `stop_after` of them is interrupted as by Ctrl-C."""
    handled: list[str] = []
    real = module._Lanes._once

    def once(self: Any, video: Row, deadline: float) -> list[Row]:
        if len(handled) == stop_after:
            raise KeyboardInterrupt
        handled.append(video["id"])
        return real(self, video, deadline)

    monkeypatch.setattr(module._Lanes, "_once", once)
    return handled


def test_an_interrupted_job_continues_and_ends_the_same(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "part").mkdir()
    expected = run(tmp_path / "whole", videos_in(sources))
    with monkeypatch.context() as patch:
        first = count_calls(patch, stop_after=3)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "part", videos_in(sources))
    assert not list((tmp_path / "part/clips").glob("0.*"))
    for half_written in ("0.tar", "0.parquet", "0_stats.json"):
        (tmp_path / f"part/clips/.{half_written}.killed").mkdir()
        (tmp_path / f"part/clips/.{half_written}.killed/{half_written}").touch()
    second = count_calls(monkeypatch)
    told: list[str] = []
    rows = run(tmp_path / "part", videos_in(sources), log=told.append)
    assert told[0] == "shard 0: continuing, 3 of 8 videos are finished"
    assert (len(first), len(second)) == (3, 5)
    assert not set(first) & set(second)
    assert sha256_file(tmp_path / "part/clips/0.tar") == sha256_file(tmp_path / "whole/clips/0.tar")
    assert rows == expected


def interrupt(folder: Path, videos: list[Row], monkeypatch: pytest.MonkeyPatch, after: int, **more: Any) -> None:
    with monkeypatch.context() as patch:
        count_calls(patch, stop_after=after)
        with pytest.raises(KeyboardInterrupt):
            run(folder, videos, **more)


def test_other_settings_begin_anew(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path, videos_in(sources, GOOD), monkeypatch, after=2)
    handled = count_calls(monkeypatch)
    rows = run(tmp_path, videos_in(sources, GOOD), settings=SETTINGS.model_copy(update={"short_side": 48}))
    assert len(handled) == 4
    assert {min(row["width"], row["height"]) for row in rows} == {48}


def test_local_files_that_changed_or_appeared_are_handled_again(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("long.mp4", "cut.mp4", "empty.mp4", "absent.mp4")
    for name in names[:-1]:
        shutil.copy(sources / name, tmp_path / name)
    run(tmp_path, videos_in(tmp_path, names))
    handled = count_calls(monkeypatch)
    for name in ("cut.mp4", "absent.mp4"):
        shutil.copy(sources / "short.mp4", tmp_path / name)
        os.utime(tmp_path / name, (time.time() + 9,) * 2 if name == "cut.mp4" else (0, 0))
    rows = run(tmp_path, videos_in(tmp_path, names))
    assert set(handled) == {"dir/cut.mp4", "dir/absent.mp4"}
    assert by_id(rows) == {
        "dir/long.mp4": "ok",
        "dir/cut.mp4": "ok",
        "dir/empty.mp4": "corrupt",
        "dir/absent.mp4": "ok",
    }


def test_transient_failures_are_tried_again_by_the_next_job(
    site: Site, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [{"id": name, "url": site.url(f"/{name}.mp4")} for name in ("down", "good", "last")]
    site.replies["/down.mp4"] = reply(b"", 503)
    site.replies["/good.mp4"] = site.replies["/last.mp4"] = reply(clip.read_bytes())
    patience = SETTINGS.model_copy(update={"attempts": 1})
    interrupt(tmp_path, videos, monkeypatch, after=2, source="http", settings=patience)
    site.replies["/down.mp4"] = reply(clip.read_bytes())
    handled = count_calls(monkeypatch)
    assert by_id(run(tmp_path, videos, "http", patience)) == {"down": "ok", "good": "ok", "last": "ok"}
    assert handled == ["down", "last"]


def test_what_is_nobodys_fault_is_tried_again(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A yt-dlp that has grown old, or a fault of ours: mended by the next run, and `tvts retry` knows."""

    def stumble(*_: Any) -> list[Row]:
        raise Failure("internal", "Failed to extract any player response")

    with monkeypatch.context() as patch:
        patch.setattr(module._Lanes, "_once", stumble)
        assert by_id(run(tmp_path, videos_in(sources, GOOD[:1]))) == {"dir/long.mp4": "internal"}
    assert reopen(tmp_path / "clips") == (1, 1)
    assert by_id(run(tmp_path, videos_in(sources, GOOD[:1]))) == {"dir/long.mp4": "ok"}


def test_a_node_where_no_worker_starts_fails_the_job_and_blames_no_video(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path, videos_in(sources, GOOD), monkeypatch, after=2)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "__name__", "tvts.corpus.absent")
        with pytest.raises(UserError, match="cut worker cannot run here"):
            run(tmp_path, videos_in(sources, GOOD))
    handled = count_calls(monkeypatch)
    assert set(by_id(run(tmp_path, videos_in(sources, GOOD))).values()) == {"ok"}
    assert len(handled) == 2


@pytest.mark.parametrize("content", ["", "{", "[]"], ids=["empty", "half", "nothing"])
def test_a_damaged_record_of_a_finished_video_is_made_again(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    interrupt(tmp_path, videos_in(sources, GOOD), monkeypatch, after=2)
    (tmp_path / "clips/.0/0000000000000000000.json").write_text(content)
    handled = count_calls(monkeypatch)
    run(tmp_path, videos_in(sources, GOOD))
    assert len(handled) == 3


def test_a_clip_that_vanished_is_made_again(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path, videos_in(sources, GOOD), monkeypatch, after=2)
    (tmp_path / "clips/.0/0000000000000000000_00001.mp4").unlink()
    run(tmp_path, videos_in(sources, GOOD))


def test_kill_9_at_any_time_and_the_end_is_the_same(sources: Path, tmp_path: Path) -> None:
    videos = videos_in(sources) * 3
    videos = [{**video, "id": f"{at}"} for at, video in enumerate(videos)]
    (tmp_path / "whole").mkdir()
    expected = run(tmp_path / "whole", videos)
    part = tmp_path / "part"
    part.mkdir()
    plan_file = make_plan(part / "plan.parquet", videos)
    script = (
        "import sys\nfrom pathlib import Path\nfrom tvts.config import Fetch\nfrom tvts.corpus.fetch import fetch_shard\n"
        "folder = Path(sys.argv[1])\nsettings = Fetch.model_validate_json(sys.argv[2])\n"
        "fetch_shard(folder / 'plan.parquet', 0, 'local', settings, 3, folder / 'clips/0.tar', folder / 'clips/0.parquet')\n"
    )
    arguments = [sys.executable, "-c", script, str(part), SETTINGS.model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    kills = 0
    for wanted in (1, 6, 13):
        process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list((part / "clips").glob(".0/*.json"))) < wanted:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 3
    assert plan_file.exists()
    rows = run(part, videos)
    assert sha256_file(part / "clips/0.tar") == sha256_file(tmp_path / "whole/clips/0.tar")
    assert rows == expected
