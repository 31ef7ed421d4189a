"""A shard from its plan to tar and index: everything good is there, everything bad is a row, and a killed job continues."""

import itertools
import json
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import webdataset
from tests.corpus.conftest import (
    BAD,
    GOOD,
    SETTINGS,
    Row,
    Site,
    assert_tidy,
    by_id,
    fetch_planned,
    make_plan,
    number_of,
    reply,
    run,
    stats,
    videos_in,
)

from tvts.config import Corpus, Fetch, UserError
from tvts.config.schema import Spans, Transcribe
from tvts.corpus import fetch as module
from tvts.corpus.cut import spans
from tvts.corpus.fetch import fetch_shard
from tvts.corpus.media import read_all_frames, read_frames
from tvts.corpus.plan import plan
from tvts.corpus.shards import INDEX_SCHEMA, read_index, read_member
from tvts.corpus.status import Failure
from tvts.corpus.transcribe import make_reader
from tvts.corpus.work import reopen
from tvts.corpus.youtube import Turnstile

pytestmark = pytest.mark.usefixtures("quick")


def test_good_videos_are_clips_and_bad_ones_are_rows(sources: Path, tmp_path: Path) -> None:
    rows = run(tmp_path, videos_in(sources))
    assert by_id(rows) == {f"dir/{name}": "ok" for name in GOOD} | {
        f"dir/{name}": status for name, status in BAD.items()
    }
    assert pq.read_schema(tmp_path / "clips" / "0.parquet").equals(INDEX_SCHEMA)
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    for row in rows:
        assert row["key"].endswith(f"_{row['span']:05d}")
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
    assert {
        name: stats(tmp_path)[name] for name in ("count", "successes", "failed_to_download", "failed_to_subsample")
    } == {
        "count": 4,
        "successes": 4,
        "failed_to_download": 0,
        "failed_to_subsample": 0,
    }


@pytest.mark.parametrize("threads", [1, 3])
def test_equal_inputs_give_equal_bytes_whatever_the_number_of_threads(
    sources: Path, tmp_path: Path, threads: int
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = run(tmp_path / "a", videos_in(sources))
    second = run(tmp_path / "b", videos_in(sources), threads=threads)
    assert (tmp_path / "a/clips/0.tar").read_bytes() == (tmp_path / "b/clips/0.tar").read_bytes()
    assert first == second


def test_video2dataset_tars_are_a_source_and_our_own_are_too(sources: Path, tmp_path: Path) -> None:
    """The whole way round: their layout in, ours out, ours in again."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with (theirs / "00000.tar").open("wb") as file:
        writer = webdataset.TarWriter(file)
        for at, name in enumerate(("long.mp4", "empty.mp4", "text.mp4", "short.mp4")):
            data = (sources / name).read_bytes()
            writer.write(
                {"__key__": f"00000{at:04d}", "json": {"status": "success"}, "mp4": data, "txt": f"about {name}"}
            )
        writer.close()
    plan(Corpus(source="local", list=str(theirs), shards=1), tmp_path / "plan.parquet")
    ours = tmp_path / "ours"
    fetch_shard(tmp_path / "plan.parquet", 0, "local", SETTINGS, 3, ours / "0.tar", ours / "0.parquet", lambda _: None)
    rows = read_index(ours / "0.parquet").to_pylist()
    assert by_id(rows) == {
        "00000/000000000": "ok",
        "00000/000000001": "corrupt",
        "00000/000000002": "corrupt",
        "00000/000000003": "ok",
    }
    assert {row["message"] for row in rows if row["id"] == "00000/000000001"} == {"the file is empty"}
    direct = run(tmp_path, [{"id": "00000/000000000", "path": str(sources / "long.mp4")}])
    assert {row["sha256"] for row in rows if row["id"] == "00000/000000000"} == {row["sha256"] for row in direct}
    plan(Corpus(source="local", list=str(ours), shards=1), tmp_path / "again.parquet")
    fetch_shard(
        tmp_path / "again.parquet", 0, "local", SETTINGS, 3, tmp_path / "2.tar", tmp_path / "2.parquet", lambda _: None
    )
    again = read_index(tmp_path / "2.parquet").to_pylist()
    assert [row["status"] for row in again] == ["ok"] * 3
    assert {row["caption"] for row in again} == {"about long.mp4", "about short.mp4"}


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
    assert stats(tmp_path)["attempts"] == 3 + 3 + 1


def test_a_finished_shard_tries_again_what_may_pass_and_adds_what_is_new(
    site: Site, clip: Path, tmp_path: Path
) -> None:
    """A retry, a grown list, another caption and another address: nothing else is fetched again."""
    site.replies["/good.mp4"] = site.replies["/new.mp4"] = site.replies["/moved.mp4"] = reply(clip.read_bytes())
    site.replies["/down.mp4"] = reply(b"", 503)
    once = SETTINGS.model_copy(update={"attempts": 1})
    videos: list[Row] = [{"id": name, "url": site.url(f"/{name}.mp4")} for name in ("good", "down", "gone", "lost")]
    run(tmp_path, videos, "http", once)
    spent = stats(tmp_path)["seconds"]
    site.replies["/down.mp4"] = reply(clip.read_bytes())
    assert reopen(tmp_path / "clips") == (1, 1)
    assert reopen(tmp_path / "clips") == (0, 0)
    (tmp_path / "clips/0.tar").unlink()  # as Snakemake does before it runs the job again
    site.seen.clear()
    videos[3]["url"] = site.url("/moved.mp4")
    videos[0]["caption"] = "new"
    videos.append({"id": "new", "url": site.url("/new.mp4")})
    rows = run(tmp_path, videos, "http", once.model_copy(update={"timeout_seconds": 99.0}))
    assert set(site.seen) == {"/down.mp4", "/moved.mp4", "/new.mp4"}
    assert by_id(rows) == {"good": "ok", "down": "ok", "gone": "removed", "lost": "ok", "new": "ok"}
    assert stats(tmp_path)["seconds"] > spent
    assert stats(tmp_path)["status_dict"] == {"ok": 4, "removed": 1}
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    run(fresh, videos, "http", once)
    for name in ("0.tar", "0.parquet"):
        assert (fresh / "clips" / name).read_bytes() == (tmp_path / "clips" / name).read_bytes()


def test_a_touched_list_writes_no_shard_again_and_a_changed_one_does(sources: Path, tmp_path: Path) -> None:
    videos = videos_in(sources)
    run(tmp_path, videos)
    tar, index = tmp_path / "clips/0.tar", tmp_path / "clips/0.parquet"
    made, whole = tar.stat().st_ino, (tar.read_bytes(), index.read_bytes())
    before = time.time_ns()
    tar.unlink()  # as Snakemake does before it runs the job again
    run(tmp_path, videos)
    assert (tar.read_bytes(), index.read_bytes()) == whole
    assert tar.stat().st_ino == made
    assert min(output.stat().st_mtime_ns for output in (tar, index)) >= before - 10**7, "newer than the list"
    for changed in ([{**videos[0], "caption": "new"}, *videos[1:]], videos[:-1], videos):
        run(tmp_path, changed)
        assert tar.stat().st_ino != made
        made = tar.stat().st_ino
    assert (tar.read_bytes(), index.read_bytes()) == whole


def test_spans_placed_by_words_follow_changed_words(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = SETTINGS.model_copy(update={"spans": Spans(per_video=1, seconds=1.0, place="words")})
    captions = tmp_path / "captions"

    def say(name: str, at: int) -> None:
        event = {"tStartMs": at, "dDurationMs": 500, "segs": [{"utf8": "here here here"}]}
        (captions / "dir").mkdir(parents=True, exist_ok=True)
        (captions / f"dir/{name}.en.json3").write_text(json.dumps({"events": [event]}))

    def found(names: tuple[str, ...]) -> dict[str, float]:
        words = make_reader(Transcribe(engine="captions", annotations=str(captions)))
        return {
            row["id"]: row["start"] for row in run(tmp_path, videos_in(sources, names), settings=placed, words=words)
        }

    names = ("long.mp4", "tall.mkv", "uneven.mp4")
    say("long.mp4", 200)
    say("tall.mkv", 200)
    before = found(names)
    handled: list[str] = []
    real = module._Lanes._once

    def once(self: Any, video: Row, deadline: float) -> list[Row]:
        handled.append(video["id"])
        return real(self, video, deadline)

    monkeypatch.setattr(module._Lanes, "_once", once)
    assert found(names) == before
    assert handled == []
    say("long.mp4", 5000)
    say("uneven.mp4", 200)
    after = found(names)
    assert sorted(handled) == ["dir/long.mp4", "dir/uneven.mp4"]
    assert after["dir/long.mp4"] > 4 > before["dir/long.mp4"]
    assert found(names) == after
    assert len(handled) == 2


def test_two_jobs_of_one_shard_wait_for_each_other(sources: Path, tmp_path: Path) -> None:
    """A job that outlived its workflow, and the one that the next workflow starts."""
    make_plan(tmp_path / "plan.parquet", videos_in(sources))
    told: list[list[str]] = [[], []]
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(fetch_planned, tmp_path, log=lines.append) for lines in told)
        assert first.result() == second.result()
    assert_tidy(tmp_path)
    assert ["shard 0: continuing, 8 of 8 videos are finished"] in [lines[:1] for lines in told]


def test_a_hang_costs_one_video(site: Site, clip: Path, tmp_path: Path) -> None:
    site.replies["/hang.mp4"] = lambda _: time.sleep(60)
    site.replies["/good.mp4"] = reply(clip.read_bytes())
    videos = [{"id": name, "url": site.url(f"/{name}.mp4")} for name in ("hang", "good")]
    rows = run(tmp_path, videos, "http", SETTINGS.model_copy(update={"timeout_seconds": 8.0}))
    assert by_id(rows) == {"hang": "timeout", "good": "ok"}
    assert rows[0]["message"] == "not finished within 8 s"
    assert stats(tmp_path)["attempts"] == 2


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


# --- YouTube's manners ------------------------------------------------------------------------------------------------


class Turns:
    """Every turn is free, until there is a pause: then nobody is given one before he stops."""

    def __init__(self, path: Path, per_hour: float) -> None:
        self.paused = False

    def wait(self, stopping: threading.Event) -> None:
        if self.paused:
            assert stopping.wait(30)

    def pause(self) -> None:
        self.paused = True


def refuse(monkeypatch: pytest.MonkeyPatch, refused: set[str], clip: Path) -> list[str]:
    asked: list[str] = []

    def once(self: Any, video: Row, deadline: float) -> list[Row]:
        asked.append(video["id"])
        if video["id"] in refused:
            raise Failure("blocked", "Sign in to confirm you're not a bot")
        raise Failure("removed", "Video unavailable")

    monkeypatch.setattr(module._Lanes, "_once", once)
    monkeypatch.setattr(module, "check_tools", lambda: None)
    monkeypatch.setattr(module, "Turnstile", Turns)
    return asked


def test_a_site_that_refuses_is_left_alone_and_nothing_is_lost(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [{"id": str(n), "url": "https://www.youtube.com/watch?v=x"} for n in range(20)]
    patience = SETTINGS.model_copy(update={"attempts": 1})
    asked = refuse(monkeypatch, {str(n) for n in range(4, 20)}, clip)
    with pytest.raises(UserError, match=r"refused 5 videos in a row .*not a bot.* finished videos are kept"):
        run(tmp_path, videos, "youtube", patience)
    assert len(asked) == 9
    asked = refuse(monkeypatch, set(), clip)
    rows = run(tmp_path, videos, "youtube", patience)
    assert asked == [str(n) for n in range(4, 20)]
    assert {row["status"] for row in rows} == {"removed"}


def test_after_a_refusal_no_lane_of_any_job_asks_again(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [{"id": str(n), "url": "https://www.youtube.com/watch?v=x"} for n in range(20)]
    asked = refuse(monkeypatch, {str(n) for n in range(20)}, clip)
    folder, began = tmp_path / "corpus", time.time()
    folder.mkdir()
    monkeypatch.setattr(module, "Turnstile", lambda path, _: Turnstile(path, 36_000))
    with pytest.raises(UserError, match=r"refused 5 videos in a row .*: no job asks for 30 minutes"):
        run(folder, videos, "youtube", SETTINGS.model_copy(update={"attempts": 1}), threads=3)
    assert 5 <= len(asked) <= 7
    assert float((tmp_path / ".youtube.rate").read_text()) > began + 1800


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


@pytest.mark.parametrize(("duration", "expected"), [(0.5, 1), (30.0, 1), (30.1, 2), (95.0, 4)])
def test_the_whole_video_in_equal_parts(duration: float, expected: int) -> None:
    found = spans("a", duration, Spans(per_video="all"), 0)
    assert len(found) == expected
    assert found[0][0] == 0
    for (start, length), following in itertools.pairwise([*found, (duration, 0.0)]):
        assert length <= 30
        assert start + length == pytest.approx(following[0], abs=2e-3)


def test_spans_lie_where_most_is_said() -> None:
    settings = Fetch().spans
    said = [float(second) for second in range(400, 470)]
    blind = [spans(str(n), 600, settings, 0) for n in range(50)]
    placed = [spans(str(n), 600, settings, 0, said) for n in range(50)]

    def heard(found: list[tuple[float, float]]) -> int:
        return sum(start <= time < start + length for start, length in found for time in said)

    assert all(heard(after) >= heard(before) for before, after in zip(blind, placed, strict=True))
    assert sum(map(heard, blind)) / 50 < 20
    assert sum(map(heard, placed)) / 50 > 30
    assert placed == [spans(str(n), 600, settings, 0, said) for n in range(50)]
    assert len({found[0][0] for found in placed}) > 40


def test_spans_depend_on_seed_and_id_alone_and_reach_everywhere() -> None:
    settings = Fetch().spans
    assert spans("a", 600, settings, 0) == spans("a", 600, settings, 0)
    assert spans("a", 600, settings, 0) != spans("a", 600, settings, 1)
    assert spans("a", 600, settings, 0) != spans("b", 600, settings, 0)
    firsts = [spans(str(n), 600, settings, 0)[0][0] for n in range(500)]
    assert min(firsts) < 20
    assert max(firsts) > 450
