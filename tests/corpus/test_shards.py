"""Tars that any webdataset reader opens and that we read by offset; tables that are what they say."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from tvts.config import UserError
from tvts.corpus.shards import INDEX_SCHEMA, PLAN_SCHEMA, TarWriter, read_index, read_member, read_plan

MEMBERS = [
    ("0001_00000.json", b"{}"),
    ("0001_00000.mp4", bytes(range(256)) * 7),
    ("0002_00000.json", b"[1]"),
    ("0002_00000.mp4", b"x" * 512),
]


def write_tar(path: Path) -> list[tuple[int, int]]:
    with path.open("wb") as file:
        writer = TarWriter(file)
        places = [writer.add(name, content) for name, content in MEMBERS]
        writer.close()
    return places


def test_members_are_read_back_by_offset(tmp_path: Path) -> None:
    places = write_tar(tmp_path / "a.tar")
    assert [read_member(tmp_path / "a.tar", *place) for place in places] == [content for _, content in MEMBERS]


def test_a_file_is_written_like_its_bytes(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar")
    with (tmp_path / "b.tar").open("wb") as file:
        writer = TarWriter(file)
        for name, content in MEMBERS:
            (tmp_path / name).write_bytes(content)
            writer.add(name, tmp_path / name)
        writer.close()
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_bytes_are_those_of_webdatasets_own_writer(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar")
    theirs = io.BytesIO()
    writer = webdataset.TarWriter(theirs, encoder=False, mtime=0)
    for key in ("0001_00000", "0002_00000"):
        writer.write(
            {"__key__": key, **{name.split(".")[1]: content for name, content in MEMBERS if name.startswith(key)}}
        )
    writer.close()
    assert (tmp_path / "a.tar").read_bytes() == theirs.getvalue()


def test_plain_webdataset_reads_our_tar(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar")
    samples = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [(sample["__key__"], sample["mp4"]) for sample in samples] == [
        ("0001_00000", MEMBERS[1][1]),
        ("0002_00000", MEMBERS[3][1]),
    ]


def test_an_empty_shard_is_a_valid_tar(tmp_path: Path) -> None:
    with (tmp_path / "empty.tar").open("wb") as file:
        TarWriter(file).close()
    with tarfile.open(tmp_path / "empty.tar") as archive:
        assert archive.getnames() == []


def test_a_tar_that_is_too_short_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"short")
    with pytest.raises(EOFError, match="10 bytes expected at offset 2, 3 are there"):
        read_member(tmp_path / "a.tar", 2, 10)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"id": ["a"]}), "column 'key' is missing"),
        (
            INDEX_SCHEMA.empty_table().set_column(2, "span", pa.array([], pa.string())),
            "column 'span' is missing or has another type",
        ),
    ],
)
def test_a_table_that_is_not_an_index_is_refused(tmp_path: Path, table: pa.Table, message: str) -> None:
    pq.write_table(table, tmp_path / "index.parquet")
    with pytest.raises(UserError, match=message):
        read_index(tmp_path / "index.parquet")


def test_missing_and_broken_tables_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "index.parquet").write_bytes(b"not parquet at all")
    for name, words in (("index.parquet", "not a readable index"), ("absent.parquet", "no such index")):
        with pytest.raises(UserError, match=words) as caught:
            read_index(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_additional_columns_do_not_disturb(tmp_path: Path) -> None:
    pq.write_table(
        INDEX_SCHEMA.empty_table().append_column("more", pa.array([], pa.int8())), tmp_path / "index.parquet"
    )
    assert read_index(tmp_path / "index.parquet").schema.equals(INDEX_SCHEMA)


def test_one_shard_of_a_plan(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "url": None, "path": "/x", "caption": None, "shard": n // 2, "key": f"{n:019d}"}
        for n in range(6)
    ]
    pq.write_table(pa.Table.from_pylist(rows, PLAN_SCHEMA), tmp_path / "plan.parquet")
    assert read_plan(tmp_path / "plan.parquet", 1).to_pylist() == rows[2:4]
    assert read_plan(tmp_path / "plan.parquet", 9).num_rows == 0
