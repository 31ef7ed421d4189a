"""Lists in, plans out: every format, every defect, and shards that never move."""

import gzip
import io
import json
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tvts.config import Corpus, UserError
from tvts.corpus import lists
from tvts.corpus import plan as plan_module
from tvts.corpus.plan import plan, plan_facts
from tvts.corpus.shards import PLAN_SCHEMA, read_member

IDS = [f"video_{n:04d}" for n in range(300)]


def corpus(path: Path, source: str = "http", **more: Any) -> Corpus:
    return Corpus.model_validate({"source": source, "list": str(path), "shards": 7, **more})


def planned(settings: Corpus, folder: Path) -> list[dict[str, Any]]:
    plan(settings, folder / "plan.parquet")
    table = pq.read_table(folder / "plan.parquet")
    assert table.schema.equals(PLAN_SCHEMA)
    rows: list[dict[str, Any]] = table.to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["shard"], row["key"]))
    return rows


def counts(folder: Path) -> dict[str, int]:
    facts = plan_facts(folder / "plan.parquet")
    return {"listed": facts["listed"], "duplicates": facts["duplicates"], "invalid": sum(facts["invalid"].values())}


def rejected(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "rejected.parquet").to_pylist()
    return rows


def write_list(path: Path, ids: list[str], extra: str = "") -> Path:
    path.write_text(
        "id,url,caption\n" + "".join(f'{name},https://host.example/{name}.mp4,"a, {name}"\n' for name in ids) + extra,
        "utf-8",
    )
    return path


def test_keys_are_numeric_unique_and_sorted_within_shards(tmp_path: Path) -> None:
    rows = planned(corpus(write_list(tmp_path / "list.csv", IDS)), tmp_path)
    assert {row["id"] for row in rows} == set(IDS)
    assert len({row["key"] for row in rows}) == 300
    assert all(len(row["key"]) == 19 and int(row["key"]) < 2**63 for row in rows)
    assert {row["shard"] for row in rows} == set(range(7))
    assert rows[0]["url"] == f"https://host.example/{rows[0]['id']}.mp4"
    assert rows[0]["caption"] == f"a, {rows[0]['id']}"
    assert rows[0]["path"] is None


def test_a_videos_shard_and_key_depend_on_its_id_alone(tmp_path: Path) -> None:
    before = {
        row["id"]: (row["shard"], row["key"])
        for row in planned(corpus(write_list(tmp_path / "a.csv", IDS[:100])), tmp_path)
    }
    shuffled = random.Random(0).sample(IDS, len(IDS))
    after = {
        row["id"]: (row["shard"], row["key"])
        for row in planned(corpus(write_list(tmp_path / "b.csv", shuffled)), tmp_path)
    }
    assert {name: after[name] for name in before} == before
    assert after["video_0000"] == (5, "5798559927154279983")  # for ever: shards already fetched rely on it


def test_equal_lists_give_equal_bytes(tmp_path: Path) -> None:
    settings = corpus(write_list(tmp_path / "list.csv", IDS))
    plan(settings, tmp_path / "a.parquet")
    plan(settings, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_rows_are_taken_from_columns_that_hold_more_than_2_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow joins the pieces of a column before it takes rows of it, which 32-bit offsets limit to 2 GiB: too much to try here."""
    pieces: list[tuple[int, pa.DataType]] = []
    join = plan_module._in_one_piece

    def seen(table: pa.Table) -> pa.Table:
        whole = join(table)
        pieces.extend((column.num_chunks, column.type) for column in whole.columns)
        return whole

    monkeypatch.setattr(plan_module, "_in_one_piece", seen)
    monkeypatch.setattr(lists, "BATCH", 7)
    lines = [json.dumps({"id": name, "url": f"http://a.example/{name}", "caption": name}) for name in IDS]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    assert {row["caption"] for row in planned(corpus(tmp_path / "list.jsonl"), tmp_path)} == set(IDS)
    assert pieces == [(1, pa.large_string())] * 3


def test_the_first_of_equal_ids_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = "video_0003,https://elsewhere.example/other.mp4,second\n" * 2
    rows = planned(corpus(write_list(tmp_path / "list.csv", IDS[:5], extra)), tmp_path)
    assert len(rows) == 5
    assert next(row["url"] for row in rows if row["id"] == "video_0003") == "https://host.example/video_0003.mp4"
    assert counts(tmp_path) == {"listed": 7, "duplicates": 2, "invalid": 0}
    assert "2 of 7 rows left out: id listed before" in capsys.readouterr().out
    assert rejected(tmp_path) == [{"id": "video_0003", "kind": "id listed before"}] * 2


def test_ids_that_differ_in_case_are_different(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("abcdefghijk\nABCDEFGHIJK\n")
    assert len(planned(corpus(tmp_path / "ids.txt", "youtube"), tmp_path)) == 2


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "parquet"])
def test_tables_of_every_format_give_the_same_plan(tmp_path: Path, suffix: str) -> None:
    expected = planned(corpus(write_list(tmp_path / "reference.csv", IDS)), tmp_path)
    columns = {
        "id": IDS,
        "more": list(range(300)),
        "caption": [f"a, {name}" for name in IDS],
        "url": [f"https://host.example/{name}.mp4" for name in IDS],
    }
    path = tmp_path / f"list.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        between = "\t" if suffix == "tsv" else ","
        lines = [between.join(columns)] + [
            between.join(f'"{cell}"' for cell in row) for row in zip(*columns.values(), strict=True)
        ]
        text = ("\n".join(lines) + "\n").encode()
        path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    assert planned(corpus(path), tmp_path) == expected


def test_numbers_as_ids_are_texts(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"id": [7, 8], "url": ["http://a.example/7", "http://a.example/8"]}), tmp_path / "list.parquet"
    )
    assert {row["id"] for row in planned(corpus(tmp_path / "list.parquet"), tmp_path)} == {"7", "8"}
    (tmp_path / "list.csv").write_text("id,url\n007,http://a.example/7\n")
    assert planned(corpus(tmp_path / "list.csv"), tmp_path)[0]["id"] == "007"


def test_text_lists_hold_one_entry_per_line(tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text(
        "# talks\nhttps://a.example/x/talk_1.mp4?token=3\n\n  https://a.example/talk_2.webm \n"
    )
    assert {(row["id"], row["url"]) for row in planned(corpus(tmp_path / "urls.txt"), tmp_path)} == {
        ("talk_1", "https://a.example/x/talk_1.mp4?token=3"),
        ("talk_2", "https://a.example/talk_2.webm"),
    }
    (tmp_path / "paths.txt").write_text("one.mp4\nsub/two.mp4\n/three.mp4\n")
    assert {(row["id"], row["path"]) for row in planned(corpus(tmp_path / "paths.txt", "local"), tmp_path)} == {
        ("one", f"{tmp_path}/one.mp4"),
        ("two", f"{tmp_path}/sub/two.mp4"),
        ("three", "/three.mp4"),
    }


def test_youtube_addresses_are_built_from_ids(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id,url\n-aBc_dEf0_1,https://evil.example/x\n")
    assert (
        planned(corpus(tmp_path / "ids.csv", "youtube"), tmp_path)[0]["url"]
        == "https://www.youtube.com/watch?v=-aBc_dEf0_1"
    )


def test_webvid_lists_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "webvid.csv").write_text(
        "videoid,contentUrl,duration,page_dir,name\n21179416,https://a.example/v.mp4,PT00H00M11S,006001_006050,Aerial shot\n"
    )
    remote = planned(corpus(tmp_path / "webvid.csv"), tmp_path)[0]
    assert (remote["id"], remote["url"], remote["caption"]) == ("21179416", "https://a.example/v.mp4", "Aerial shot")
    local = planned(corpus(tmp_path / "webvid.csv", "local", root="/data/webvid"), tmp_path)[0]
    assert (local["id"], local["path"], local["caption"]) == (
        "21179416",
        "/data/webvid/006001_006050/21179416.mp4",
        "Aerial shot",
    )


GOOD_IDS = ["a", "-starts_with_dash", "_x", "folder/clip.1", "größe", "視頻", "a b", "name (1)", "x" * 200]
BAD_IDS = {
    "no id": "",
    "parent folder": "../x",
    "parent folder inside": "a/../../x",
    "absolute": "/etc/passwd",
    "hidden": ".ssh",
    "hidden inside": "a/.ssh",
    "empty folder": "a//b",
    "trailing slash": "a/",
    "backslash": "a\\b",
    "control": "a\x01b",
    "escape sequence": "\x1b[31mred",
    "zero width": "a\u200bb",
    "right to left override": "a\u202eb",
    "line separator": "a\u2028b",
    "formula": "=1+1",
    "html": "<script>",
    "quote": "a'b",
    "dollar": "$(id)",
    "semicolon": "a;b",
    "percent": "%(title)s",
    "too long": "x" * 201,
    "too long in bytes": "視" * 100,
}


@pytest.mark.parametrize("name", GOOD_IDS)
def test_good_ids(tmp_path: Path, name: str) -> None:
    pq.write_table(pa.table({"id": [name], "url": ["https://a.example/v"]}), tmp_path / "list.parquet")
    assert planned(corpus(tmp_path / "list.parquet"), tmp_path)[0]["id"] == name


@pytest.mark.parametrize("name", BAD_IDS.values(), ids=BAD_IDS)
def test_bad_ids_are_left_out_and_counted(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"id": [name, "good"], "url": ["https://a.example/v"] * 2}), tmp_path / "list.parquet")
    assert [row["id"] for row in planned(corpus(tmp_path / "list.parquet"), tmp_path)] == ["good"]
    assert counts(tmp_path) == {"listed": 2, "duplicates": 0, "invalid": 1}
    warning, _ = capsys.readouterr().out.splitlines()
    assert "1 of 2 rows left out" in warning
    assert warning.isprintable()
    (row,) = rejected(tmp_path)
    assert row["id"] == (name or None)
    assert row["kind"] in warning


@pytest.mark.parametrize(
    "name", ["short", "twelve_chars", "has space__", "a/b/c/d/e/f", "\u0430bcdefghijk", "https://x.y"]
)
def test_only_youtube_ids_are_youtube_ids(tmp_path: Path, name: str) -> None:
    (tmp_path / "ids.txt").write_text(f"{name}\ndQw4w9WgXcQ\n", "utf-8")
    assert [row["id"] for row in planned(corpus(tmp_path / "ids.txt", "youtube"), tmp_path)] == ["dQw4w9WgXcQ"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no address",
        "/etc/passwd",
        "http:/one.slash",
        "http://a b",
        "http://a\x07b",
        "--exec=x",
        "ytsearch:x",
        "x" * 2100,
    ],
)
def test_addresses_that_are_none_are_left_out(tmp_path: Path, url: str) -> None:
    pq.write_table(pa.table({"id": ["bad", "good"], "url": [url, "http://a.example/v"]}), tmp_path / "list.parquet")
    assert [row["id"] for row in planned(corpus(tmp_path / "list.parquet"), tmp_path)] == ["good"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.mp4", "a/../../x.mp4", "a\x00b", ""])
def test_local_paths_stay_within_the_root(tmp_path: Path, path: str) -> None:
    pq.write_table(pa.table({"id": ["bad", "good"], "path": [path, "a/..b.mp4"]}), tmp_path / "list.parquet")
    rows = planned(corpus(tmp_path / "list.parquet", "local", root=str(tmp_path / "videos")), tmp_path)
    assert [row["path"] for row in rows] == [f"{tmp_path}/videos/a/..b.mp4"]


def test_captions_are_kept_as_data_whatever_they_say(tmp_path: Path) -> None:
    captions = ["=HYPERLINK(1)", "<script>alert(1)</script>", 'a "quoted" one, with\nnewline', "  trimmed  ", ""]
    pq.write_table(
        pa.table({"id": list("abcde"), "url": ["http://a.example"] * 5, "caption": captions}), tmp_path / "list.parquet"
    )
    found = {row["id"]: row["caption"] for row in planned(corpus(tmp_path / "list.parquet"), tmp_path)}
    assert found == {"a": captions[0], "b": captions[1], "c": captions[2], "d": "trimmed", "e": None}


def test_lines_with_too_many_cells_are_counted(tmp_path: Path) -> None:
    rows = planned(corpus(write_list(tmp_path / "list.csv", IDS[:3], "x,y,z,too,many\n")), tmp_path)
    assert len(rows) == 3
    assert counts(tmp_path) == {"listed": 4, "duplicates": 0, "invalid": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "no such file; write this list yourself"),
        ("list.csv", b"name,url\n1,http://a\n", "column 'id' is missing"),
        ("list.csv", b"id,url\n", "no valid row among 0"),
        ("list.csv", b"id,url\n/,x\n", "no valid row among 1"),
        ("list.csv", b"", "cannot be read"),
        ("list.csv", b"id,url\n\xff\xfe,http://a\n", "cannot be read"),
        ("list.txt", b"\xff\xfe", "cannot be read"),
        ("list.parquet", b"not parquet", "cannot be read"),
        ("list.xlsx", b"x", r"expected \.csv, \.tsv, .* found \.xlsx"),
    ],
)
def test_unusable_lists_are_told_in_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        plan(corpus(tmp_path / name), tmp_path / "plan.parquet")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "plan.parquet").exists()


# --- annotation files and folders -------------------------------------------------------------------------------------


def test_yt_temporal_annotations_are_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "yttemporal"
    folder.mkdir()
    for part in range(2):
        annotations = [{"info": {"display_id": f"abcdefgh_{part}{n}"}, "subtitles": []} for n in range(5)]
        lines = [json.dumps(annotation) for annotation in annotations] + ["{broken", "[1]"]
        (folder / f"part_{part}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    rows = planned(corpus(folder, "youtube"), tmp_path)
    assert {row["id"] for row in rows} == {f"abcdefgh_{part}{n}" for part in range(2) for n in range(5)}
    assert counts(tmp_path) == {"listed": 14, "duplicates": 0, "invalid": 4}
    assert len(planned(corpus(folder / "part_1.jsonl.gz", "youtube"), tmp_path)) == 5


def test_lists_of_objects(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text(
        '{"id": 7, "url": "http://a.example/7", "caption": "x"}\n{"id": null, "url": "http://a.example/8"}\n'
    )
    (row,) = planned(corpus(tmp_path / "list.jsonl"), tmp_path)
    assert (row["id"], row["url"], row["caption"]) == ("7", "http://a.example/7", "x")
    assert counts(tmp_path)["invalid"] == 1


def test_bad_lines_of_objects_are_left_out_and_bad_letters_replaced(tmp_path: Path) -> None:
    lines = [
        rb'{"id": "half", "url": "http://a.example/1", "caption": "sad \ud83d"}',
        rb'{"id": "whole", "url": "http://a.example/2", "caption": "\ud83d\ude00"}',
        b'{"id": "latin", "url": "http://a.example/3", "caption": "gr\xf6sser"}',
        rb'{"id": "\ud83d", "url": "http://a.example/4"}',
        b"[" * 200_000,
        b'{"id": ' + b"1" * 5_000 + b"}",
    ]
    (tmp_path / "list.jsonl").write_bytes(b"\n".join(lines))
    rows = planned(corpus(tmp_path / "list.jsonl"), tmp_path)
    found = {row["id"]: row["caption"] for row in rows}
    assert found == {"half": "sad \ufffd", "whole": "\U0001f600", "latin": "gr\ufffdsser"}
    assert counts(tmp_path) == {"listed": 6, "duplicates": 0, "invalid": 3}


def test_names_that_are_not_utf_8_are_left_out_and_counted(tmp_path: Path) -> None:
    folder, tars = tmp_path / "videos", tmp_path / "tars"
    folder.mkdir()
    tars.mkdir()
    for name in (b"good.mp4", b"b\xf6se.mp4"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).touch()
    with tarfile.open(tars / "00000.tar", "w") as archive:
        add(archive, os.fsdecode(b"b\xf6se.mp4"), b"x")
        add(archive, "good.mp4", b"y")
    for where, expected in ((folder, "good"), (tars, "00000/good")):
        assert [row["id"] for row in planned(corpus(where, "local"), tmp_path)] == [expected]
        assert counts(tmp_path) == {"listed": 2, "duplicates": 0, "invalid": 1}


def damaged(name: str, whole: bytes, folder: Path) -> Path:
    """A good file and a truncated one beside it; returns the bad one."""
    folder.mkdir()
    (folder / f"000.{name}").write_bytes(whole)
    (folder / f"001.{name}").write_bytes(whole[:-200])
    return folder / f"001.{name}"


def test_of_many_files_the_damaged_one_is_named(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"id": f"v{n}", "path": f"{n}.mp4"}) + "\n" for n in range(500))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        add(archive, "a.mp4", bytes(600))
        add(archive, "a.txt", bytes(600))
    tar = packed.getvalue()[: 6 * 512]
    bad = [
        damaged("jsonl.gz", gzip.compress(lines.encode()), tmp_path / "lines"),
        damaged("tar", tar, tmp_path / "tars"),
    ]
    (tmp_path / "list.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:50] + b"\xff" * 100)
    (tmp_path / "list.csv.gz").write_bytes(gzip.compress(b"id,path\n" + os.urandom(3000).hex().encode())[:-100])
    whole = [tmp_path / "list.jsonl.gz", tmp_path / "list.csv.gz"]
    for given, named in [(path.parent, path) for path in bad] + [(path, path) for path in whole]:
        with pytest.raises(UserError) as caught:
            plan(corpus(given, "local"), tmp_path / "plan.parquet")
        assert str(caught.value).startswith(f"corpus list {named}: cannot be read (")
        assert str(caught.value).endswith("); expected a whole file, text as UTF-8")


def test_a_folder_of_videos(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    for name in ("b.mp4", "deep/er/a.MKV", "notes.txt", ".hidden/x.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    rows = planned(corpus(folder, "local"), tmp_path)
    assert {row["id"]: row["path"] for row in rows} == {"b": f"{folder}/b.mp4", "deep/er/a": f"{folder}/deep/er/a.MKV"}


def test_a_folder_is_no_list_of_urls(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a folder without \.jsonl files; source http needs a list"):
        plan(corpus(tmp_path), tmp_path / "plan.parquet")


def add(
    archive: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    archive.addfile(info, io.BytesIO(content))


def test_video2dataset_tars_are_planned_in_place(tmp_path: Path) -> None:
    """Its layout: numeric keys, json always, mp4 if the download succeeded, txt if there was a caption."""
    folder = tmp_path / "v2d"
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as archive:
        add(archive, "000000000.json", b'{"status": "success"}')
        add(archive, "000000000.mp4", b"first video")
        add(archive, "000000000.txt", "a caption, größer".encode())
        add(archive, "000000001.json", b'{"status": "failed_to_download"}')
        add(archive, "000000001.txt", b"never downloaded")
        add(archive, "000000002.mp4", b"second")
    (folder / "00000.parquet").write_bytes(b"")
    (folder / "00000_stats.json").write_text("{}")
    rows = {row["id"]: row for row in planned(corpus(folder, "local"), tmp_path)}
    assert set(rows) == {"00000/000000000", "00000/000000002"}
    assert rows["00000/000000000"]["caption"] == "a caption, größer"
    assert rows["00000/000000002"]["caption"] is None
    for name, content in (("00000/000000000", b"first video"), ("00000/000000002", b"second")):
        tar, _, place = rows[name]["path"].partition("#")
        offset, _, size = place.partition("+")
        assert read_member(Path(tar), int(offset), int(size)) == content


HOSTILE_MEMBERS = {
    "parent": ("../../evil.mp4", tarfile.REGTYPE, ""),
    "absolute": ("/etc/cron.d/evil.mp4", tarfile.REGTYPE, ""),
    "hidden": (".ssh/evil.mp4", tarfile.REGTYPE, ""),
    "control": ("a\x1b[2Jb.mp4", tarfile.REGTYPE, ""),
    "symbolic link": ("a.mp4", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": ("a.mp4", tarfile.LNKTYPE, "../../etc/passwd"),
    "device": ("a.mp4", tarfile.CHRTYPE, ""),
    "pipe": ("a.mp4", tarfile.FIFOTYPE, ""),
    "folder": ("a.mp4", tarfile.DIRTYPE, ""),
}


@pytest.mark.parametrize("name", HOSTILE_MEMBERS)
def test_hostile_tar_members_are_left_out(tmp_path: Path, name: str) -> None:
    member, kind, link = HOSTILE_MEMBERS[name]
    folder = tmp_path / "v2d"
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as archive:
        add(archive, member, b"x" if kind == tarfile.REGTYPE else b"", kind, link)
        add(archive, "good.mp4", b"y")
    rows = planned(corpus(folder, "local"), tmp_path)
    assert [row["id"] for row in rows] == ["00000/good"]
    assert counts(tmp_path)["invalid"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.parquet", "rejected.parquet", "v2d"]


def test_a_broken_tar_is_told(tmp_path: Path) -> None:
    (tmp_path / "00000.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(UserError, match="cannot be read"):
        plan(corpus(tmp_path, "local"), tmp_path / "plan.parquet")
