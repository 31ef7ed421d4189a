"""A shard from its plan to tar and index: everything good is there, everything bad is a row, and a killed job continues."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from tests.corpus.conftest import Site, number_of, reply, write_clip

from tvts.config import Corpus, Fetch, UserError
from tvts.corpus import fetch as module
from tvts.corpus.cut import spans
from tvts.corpus.fetch import Source, fetch_shard
from tvts.corpus.media import read_all_frames, read_frames
from tvts.corpus.plan import plan
from tvts.corpus.shards import INDEX_SCHEMA, PLAN_SCHEMA, read_index, read_member
from tvts.corpus.status import STATUSES, Failure
from tvts.files import sha256_file

SETTINGS = Fetch.model_validate(
    {"short_side": 32, "fps": 6.0, "spans": {"per_video": 2, "seconds": 1.5}, "allow_private_hosts": True}
)
VOLATILE = ("seconds",)

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.01)


def make_plan(path: Path, videos: list[Row]) -> Path:
    """A plan of one shard; `videos` have id and url or path, perhaps a caption."""
    rows = [
        {"url": None, "path": None, "caption": None, "shard": 0, "key": f"{at:019d}", **video}
        for at, video in enumerate(videos)
    ]
    pq.write_table(pa.Table.from_pylist(rows, PLAN_SCHEMA), path)
    return path


def run(
    folder: Path, videos: list[Row], source: Source = "local", settings: Fetch = SETTINGS, **more: Any
) -> list[Row]:
    plan_file = make_plan(folder / "plan.parquet", videos)
    fetch_shard(
        plan_file,
        0,
        source,
        settings,
        3,
        folder / "clips" / "0.tar",
        folder / "clips" / "0.parquet",
        **{"log": lambda _: None, **more},
    )
    rows: list[Row] = read_index(folder / "clips" / "0.parquet").to_pylist()
    assert {row["status"] for row in rows} <= set(STATUSES)
    assert sorted(path.name for path in (folder / "clips").iterdir()) == ["0.parquet", "0.tar"]
    return rows


def by_id(rows: list[Row]) -> dict[str, str]:
    return {row["id"]: row["status"] for row in rows if row["span"] == 0}


def lasting(rows: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in VOLATILE} for row in rows]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good videos of different kinds and three bad ones."""
    folder = tmp_path_factory.mktemp("sources")
    write_clip(folder / "long.mp4", seconds=6)
    write_clip(folder / "short.mp4", seconds=1, audio=None)
    write_clip(folder / "tall.mkv", seconds=3, size=(64, 96))
    write_clip(folder / "uneven.mp4", times=[0, 0.2, 1.1, 1.3, 2.5], audio=None)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("hello " * 50)
    whole = (folder / "long.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return folder


GOOD = ("long.mp4", "short.mp4", "tall.mkv", "uneven.mp4")
BAD = {"empty.mp4": "corrupt", "text.mp4": "corrupt", "cut.mp4": "corrupt", "absent.mp4": "removed"}


def videos_in(folder: Path, names: Any = (*GOOD, *BAD)) -> list[Row]:
    return [
        {"id": f"dir/{name}", "path": str(folder / name), "caption": f"a <b>{name}</b>" if name == "long.mp4" else None}
        for name in names
    ]


def test_good_videos_are_clips_and_bad_ones_are_rows(sources: Path, tmp_path: Path) -> None:
    rows = run(tmp_path, videos_in(sources))
    assert by_id(rows) == {f"dir/{name}": "ok" for name in GOOD} | {
        f"dir/{name}": status for name, status in BAD.items()
    }
    assert pq.read_schema(tmp_path / "clips" / "0.parquet").equals(INDEX_SCHEMA)
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    for row in rows:
        assert row["key"].endswith(f"_{row['span']:05d}")
        assert row["attempts"] == 1
        assert row["seconds"] >= 0
        if row["status"] != "ok":
            assert row["message"]
            assert {
                row[name] for name in ("start", "duration", "offset", "size", "fps", "frames", "sha256", "audio")
            } == {None}


def test_every_clip_is_where_the_index_says_and_what_it_says(sources: Path, tmp_path: Path) -> None:
    rows = run(tmp_path, videos_in(sources, GOOD))
    tar = tmp_path / "clips" / "0.tar"
    with tarfile.open(tar) as archive:
        names = archive.getnames()
        for row in rows:
            member = archive.extractfile(f"{row['key']}.mp4")
            assert member
            data = read_member(tar, row["offset"], row["size"])
            assert data == member.read()
            assert read_all_frames(data).shape == (row["frames"], row["height"], row["width"], 3)
            assert row["duration"] == row["frames"] / row["fps"]
            assert row["keyframes"] == list(range(0, row["frames"], 16))
            assert min(row["height"], row["width"]) == 32
            assert read_frames(data, [row["frames"] - 1], keyframes=row["keyframes"]).shape[0] == 1
    assert names == [
        f"{row['key']}.{suffix}"
        for row in rows
        for suffix in ("json", "mp4", "txt")
        if suffix != "txt" or row["caption"]
    ]
    assert {row["id"]: row["audio"] for row in rows} == {
        "dir/long.mp4": True,
        "dir/short.mp4": False,
        "dir/tall.mkv": True,
        "dir/uneven.mp4": False,
    }


def test_spans_show_the_moments_the_index_names(sources: Path, tmp_path: Path) -> None:
    rows = run(tmp_path, videos_in(sources, ["long.mp4"]))
    assert len(rows) == 2
    for row in rows:
        data = read_member(tmp_path / "clips" / "0.tar", row["offset"], row["size"])
        shown = [number_of(picture) for picture in read_all_frames(data)]
        assert shown == [int((row["start"] + tick / 6 + 1e-3) * 24) for tick in range(9)]


def test_the_tar_is_one_that_video2dataset_and_webdataset_readers_know(sources: Path, tmp_path: Path) -> None:
    rows = run(tmp_path, videos_in(sources, GOOD))
    samples = list(webdataset.WebDataset(str(tmp_path / "clips" / "0.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [row["key"] for row in rows]
    described = json.loads(samples[0]["json"])
    assert {"key", "url", "caption", "status", "error_message", "clips"} <= described.keys()
    assert (described["status"], described["error_message"]) == ("success", None)
    assert described["clips"] == [[rows[0]["start"], pytest.approx(rows[0]["start"] + 1.5)]]
    assert samples[0]["txt"] == b"a <b>long.mp4</b>"
    assert "txt" not in samples[-1]


@pytest.mark.parametrize("threads", [1, 3])
def test_equal_inputs_give_equal_bytes_whatever_the_number_of_threads(
    sources: Path, tmp_path: Path, threads: int
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = run(tmp_path / "a", videos_in(sources))
    second = run(tmp_path / "b", videos_in(sources), threads=threads)
    assert (tmp_path / "a/clips/0.tar").read_bytes() == (tmp_path / "b/clips/0.tar").read_bytes()
    assert lasting(first) == lasting(second)


def test_an_empty_shard_is_two_valid_files(tmp_path: Path) -> None:
    assert run(tmp_path, []) == []
    with tarfile.open(tmp_path / "clips/0.tar") as archive:
        assert archive.getnames() == []


def test_from_a_list_to_a_shard_over_http(site: Site, sources: Path, tmp_path: Path) -> None:
    lines = ["id,url,caption"]
    for name in (*GOOD, "cut.mp4"):
        site.replies[f"/{name}"] = reply(
            (sources / name).read_bytes(), content_type="video/x-matroska" if name.endswith("mkv") else "video/mp4"
        )
        lines.append(f"{name.partition('.')[0]},{site.url(f'/{name}')},about {name}")
    lines.append(f"gone,{site.url('/nothing.mp4')},x")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    corpus = Corpus(source="http", list=str(tmp_path / "list.csv"), shards=1, fetch=SETTINGS)
    plan(corpus, tmp_path / "plan.parquet")
    told: list[str] = []
    fetch_shard(
        tmp_path / "plan.parquet", 0, "http", SETTINGS, 0, tmp_path / "0.tar", tmp_path / "0.parquet", told.append
    )
    rows = read_index(tmp_path / "0.parquet").to_pylist()
    assert by_id(rows) == {
        "long": "ok",
        "short": "ok",
        "tall": "ok",
        "uneven": "ok",
        "cut": "corrupt",
        "gone": "removed",
    }
    assert told == ["shard 0: 6 videos: 1 corrupt, 4 ok, 1 removed"]


def test_what_may_pass_is_tried_again(site: Site, clip: Path, tmp_path: Path) -> None:
    answers = iter([reply(b"", 503), reply(b"", 503)])
    site.replies["/flaky.mp4"] = lambda handler: next(answers, reply(clip.read_bytes()))(handler)
    site.replies["/down.mp4"] = reply(b"", 503)
    videos = [{"id": name, "url": site.url(f"/{name}.mp4")} for name in ("flaky", "down", "gone")]
    rows = run(tmp_path, videos, "http")
    assert by_id(rows) == {"flaky": "ok", "down": "transient", "gone": "removed"}
    assert {row["id"]: row["attempts"] for row in rows} == {"flaky": 3, "down": 3, "gone": 1}


def test_a_hang_costs_one_video(site: Site, clip: Path, tmp_path: Path) -> None:
    site.replies["/hang.mp4"] = lambda _: time.sleep(20)
    site.replies["/good.mp4"] = reply(clip.read_bytes())
    videos = [{"id": name, "url": site.url(f"/{name}.mp4")} for name in ("hang", "good")]
    rows = run(tmp_path, videos, "http", SETTINGS.model_copy(update={"timeout_seconds": 4.0}))
    assert by_id(rows) == {"hang": "timeout", "good": "ok"}
    assert rows[0]["attempts"] == 1


def test_no_file_is_left_outside_the_outputs(
    site: Site, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    site.replies["/a.mp4"] = reply(clip.read_bytes(), **{"Content-Disposition": "attachment; filename=../../x"})
    site.replies["/huge.mp4"] = reply(bytes(10), length=10**12)
    names = ["a", "huge", "gone"]
    rows = run(tmp_path, [{"id": name, "url": site.url(f"/{name}.mp4")} for name in names], "http")
    assert by_id(rows) == {"a": "ok", "huge": "skipped_rule", "gone": "removed"}
    assert list(elsewhere.iterdir()) == []


# --- continuing -------------------------------------------------------------------------------------------------------


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
    second = count_calls(monkeypatch)
    told: list[str] = []
    rows = run(tmp_path / "part", videos_in(sources), log=told.append)
    assert told[0] == "shard 0: continuing, 3 of 8 videos are finished"
    assert (len(first), len(second)) == (3, 5)
    assert not set(first) & set(second)
    assert sha256_file(tmp_path / "part/clips/0.tar") == sha256_file(tmp_path / "whole/clips/0.tar")
    assert lasting(rows) == lasting(expected)


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


@pytest.mark.parametrize("content", ["", "{", "[]"], ids=["empty", "half", "nothing"])
def test_a_damaged_record_of_a_finished_video_is_made_again(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    interrupt(tmp_path, videos_in(sources, GOOD), monkeypatch, after=2)
    (tmp_path / "clips/.0.work/0000000000000000000.json").write_text(content)
    handled = count_calls(monkeypatch)
    run(tmp_path, videos_in(sources, GOOD))
    assert len(handled) == 3


def test_a_clip_that_vanished_is_made_again(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path, videos_in(sources, GOOD), monkeypatch, after=2)
    (tmp_path / "clips/.0.work/0000000000000000000_00001.mp4").unlink()
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
        while process.poll() is None and len(list((part / "clips").glob(".0.work/*.json"))) < wanted:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 3
    assert plan_file.exists()
    rows = run(part, videos)
    assert sha256_file(part / "clips/0.tar") == sha256_file(tmp_path / "whole/clips/0.tar")
    assert lasting(rows) == lasting(expected)


# --- YouTube's manners ------------------------------------------------------------------------------------------------


def refuse(monkeypatch: pytest.MonkeyPatch, refused: set[str], clip: Path) -> list[str]:
    asked: list[str] = []

    def once(self: Any, video: Row, deadline: float) -> list[Row]:
        asked.append(video["id"])
        if video["id"] in refused:
            raise Failure("blocked", "Sign in to confirm you're not a bot")
        raise Failure("removed", "Video unavailable")

    monkeypatch.setattr(module._Lanes, "_once", once)
    monkeypatch.setattr(module, "check_tools", lambda: None)
    monkeypatch.setattr("tvts.corpus.youtube.SECONDS_BETWEEN_VIDEOS", 0.0)
    monkeypatch.setattr(module, "Turnstile", lambda path: None)
    return asked


def test_a_site_that_refuses_is_left_alone_and_nothing_is_lost(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [{"id": str(n), "url": "https://www.youtube.com/watch?v=x"} for n in range(20)]
    patience = SETTINGS.model_copy(update={"attempts": 1})
    asked = refuse(monkeypatch, {str(n) for n in range(4, 20)}, clip)
    with pytest.raises(UserError, match=r"refused 5 videos in a row .*not a bot.* finished videos are kept"):
        run(tmp_path, videos, "youtube", patience)
    assert len(asked) <= 10
    asked = refuse(monkeypatch, set(), clip)
    rows = run(tmp_path, videos, "youtube", patience)
    assert asked == [str(n) for n in range(4, 20)]
    assert {row["status"] for row in rows} == {"removed"}


def test_single_refusals_are_rows(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [{"id": str(n), "url": "https://www.youtube.com/watch?v=x"} for n in range(12)]
    refuse(monkeypatch, {str(n) for n in range(0, 12, 2)}, clip)
    rows = run(tmp_path, videos, "youtube", SETTINGS.model_copy(update={"attempts": 1}))
    assert [row["status"] for row in rows] == ["blocked", "removed"] * 6


# --- spans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration", "expected"),
    [(0.04, 1), (20.0, 1), (59.9, 1), (60.0, 2), (600.0, 2)],
    ids=["a frame", "short", "not quite two", "two", "long"],
)
def test_as_many_spans_as_fit(duration: float, expected: int) -> None:
    found = spans("a", duration, Fetch().spans, 0)
    assert len(found) == expected
    ends = 0.0
    for start, length in found:
        assert length == min(30.0, duration)
        assert start >= ends - 1e-3
        ends = start + length
    assert ends <= duration + 1e-3


def test_spans_depend_on_seed_and_id_alone_and_reach_everywhere() -> None:
    settings = Fetch().spans
    assert spans("a", 600, settings, 0) == spans("a", 600, settings, 0)
    assert spans("a", 600, settings, 0) != spans("a", 600, settings, 1)
    assert spans("a", 600, settings, 0) != spans("b", 600, settings, 0)
    firsts = [spans(str(n), 600, settings, 0)[0][0] for n in range(500)]
    assert min(firsts) < 20
    assert max(firsts) > 450
