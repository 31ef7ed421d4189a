"""Reading what a corpus is made of: tables, text files, annotation files, or a folder of videos or of video2dataset's tars."""

import contextlib
import gzip
import itertools
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from tvts.config import Corpus, UserError
from tvts.corpus.status import one_line
from tvts.files import storable

NEEDED = {"youtube": ("id",), "http": ("id", "url"), "local": ("id", "path")}
COLUMNS = ("id", "url", "path", "caption")
WEBVID = {"videoid": "id", "contentUrl": "url", "name": "caption", "page_dir": "page_dir"}
"""Columns of WebVid's own lists, read as ours. Its videos lie at `page_dir/videoid.mp4`."""
VIDEO_SUFFIXES = frozenset({"mp4", "m4v", "mov", "mkv", "webm", "avi", "flv", "mpg", "mpeg", "ts"})
BATCH = 10_000

Row = dict[str, str | None]


def read_list(corpus: Corpus) -> tuple[pa.Table, int]:
    """The list as columns id, url or path, and caption if there is one (strings), and the number of lines that could not be parsed.

    A text file holds one id (`youtube`), URL or path per line; for URLs and paths the id is the file's name without extension. A jsonl file
    holds our columns, or YT-Temporal's annotations. A folder stands for its jsonl files, else its tars, else its videos.
    """
    path = Path(corpus.list)
    if not path.exists():
        raise UserError(f"corpus list {path}: no such file; {corpus.obtain}")
    with _readable(path):
        table, unparsed = _read(path, corpus)
    needed = NEEDED[corpus.source]
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise UserError(
            f"corpus list {path}: column {missing[0]!r} is missing; source {corpus.source} needs {' and '.join(needed)}"
        )
    return table, unparsed


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise UserError that names `path` for whatever is wrong with the file."""
    try:
        yield
    except (pa.ArrowInvalid, UnicodeDecodeError, tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's trouble, not the file's
            raise
        reason = one_line(str(error).partition("\n")[0])
        raise UserError(
            f"corpus list {path}: cannot be read ({reason}); expected a whole file, text as UTF-8"
        ) from error


def _read(path: Path, corpus: Corpus) -> tuple[pa.Table, int]:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if path.is_dir():
        return _read_folder(path, corpus)
    if suffix == ".parquet":
        names = _known(pq.read_schema(path).names)
        return _tidy(pq.ParquetFile(path).iter_batches(columns=names), names, corpus), 0
    if suffix == ".txt":
        table = _one_per_line(path, corpus.source)
        return _tidy(table.to_batches(), table.column_names, corpus), 0
    if suffix == ".jsonl":
        return _read_rows(_json_lines([path]), corpus)
    if suffix not in (".csv", ".tsv"):
        known = ".csv, .tsv, .jsonl (.gz may follow), .txt, .parquet or a folder"
        raise UserError(f"corpus list {path}: expected {known}, found {path.suffix or 'no extension'}")
    return _read_csv(path, "\t" if suffix == ".tsv" else ",", corpus)


def _read_csv(path: Path, delimiter: str, corpus: Corpus) -> tuple[pa.Table, int]:
    unparsed = 0

    def skip(_: pa.csv.InvalidRow) -> str:
        nonlocal unparsed
        unparsed += 1
        return "skip"

    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    with pa.csv.open_csv(path, parse_options=parse) as reader:
        names = _known(reader.schema.names)
    unparsed = 0
    convert = pa.csv.ConvertOptions(include_columns=names, column_types=dict.fromkeys(names, pa.string()))
    with pa.csv.open_csv(path, parse_options=parse, convert_options=convert) as reader:
        return _tidy(reader, names, corpus), unparsed


def _one_per_line(path: Path, source: str) -> pa.Table:
    stripped = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    lines = pa.array([line for line in stripped if line and not line.startswith("#")], pa.string())
    if source == "youtube":
        return pa.table({"id": lines})
    names = pc.replace_substring_regex(lines, r"^.*/|[?#].*$", "")
    ids = pc.replace_substring_regex(names, r"\.[A-Za-z0-9]{1,5}$", "")
    return pa.table({"id": ids, "url" if source == "http" else "path": lines})


def _read_folder(folder: Path, corpus: Corpus) -> tuple[pa.Table, int]:
    annotations = sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")])
    tars = sorted(folder.glob("*.tar"))
    if annotations:
        return _read_rows(_json_lines(annotations), corpus)
    if corpus.source != "local":
        raise UserError(f"corpus list {folder}: a folder without .jsonl files; source {corpus.source} needs a list")
    return _read_rows(_tar_members(tars) if tars else _videos(folder), corpus)


def _read_rows(rows: Iterable[Row | None], corpus: Corpus) -> tuple[pa.Table, int]:
    """Rows (None: could not be parsed) as a table. Names of files and members that are not UTF-8 could not be parsed either."""
    unparsed = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal unparsed
        iterator = iter(rows)
        while batch := list(itertools.islice(iterator, BATCH)):
            usable = [
                row for row in batch if row is not None and all(text == storable(text) for text in row.values() if text)
            ]
            unparsed += len(batch) - len(usable)
            yield pa.RecordBatch.from_pylist(usable, schema)

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    return _tidy(batches(), list(COLUMNS), corpus), unparsed


def _json_lines(paths: list[Path]) -> Iterator[Row | None]:
    for path in paths:
        unpack: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with _readable(path), unpack(path, "rt", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                yield _json_row(line)


def _json_row(line: str) -> Row | None:
    """A line of a list, or of YT-Temporal's annotations (`info` is youtube-dl's); None if it is neither."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    info = entry["info"] if isinstance(entry.get("info"), dict) else entry
    row = {"id": info.get("display_id") or info.get("id"), **{name: entry.get(name) for name in COLUMNS[1:]}}
    return {name: None if value is None else storable(str(value)) for name, value in row.items()}


def _tar_members(tars: list[Path]) -> Iterator[Row]:
    """The videos of webdataset or video2dataset tars, where they lie: nothing is unpacked. Ids are TAR/KEY.

    Only plain files count; a link or a device by a video's name has no path. A key's caption is its `.txt` member.
    """
    for tar in tars:
        found: dict[str, Row] = {}
        with _readable(tar), tarfile.open(tar, "r:") as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                key = f"{tar.stem}/{folder}/{stem}" if folder else f"{tar.stem}/{stem}"
                plain = member.isfile() and not member.issparse()
                if suffix.lower() in VIDEO_SUFFIXES:
                    place = f"{tar.name}#{member.offset_data}+{member.size}" if plain else None
                    found.setdefault(key, {"id": key})["path"] = place
                elif suffix == "txt" and plain and (text := archive.extractfile(member)):
                    found.setdefault(key, {"id": key})["caption"] = text.read().decode(errors="replace")
        yield from (row for row in found.values() if "path" in row)


def _videos(folder: Path) -> Iterator[Row]:
    """Every video under `folder`; the id is the path without its suffix."""
    for path in sorted(folder.rglob("*")):
        if path.suffix[1:].lower() in VIDEO_SUFFIXES:
            place = path.relative_to(folder)
            yield {"id": str(place.with_suffix("")), "path": str(place)}


def _known(names: list[str]) -> list[str]:
    return [name for name in names if name in (*COLUMNS, *WEBVID)]


def _tidy(batches: Iterable[pa.RecordBatch], names: list[str], corpus: Corpus) -> pa.Table:
    """Our columns that the list has and its source uses: trimmed strings, empty ones null."""
    empty = pa.RecordBatch.from_pylist([], pa.schema([(name, pa.string()) for name in names]))
    tidy = []
    for batch in itertools.chain([empty], batches):
        columns = {
            WEBVID.get(name, name): column for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        if "page_dir" in columns and "path" not in columns:
            columns["path"] = pc.binary_join_element_wise(columns["page_dir"], "/", columns["id"], ".mp4", "")
        wanted = (*NEEDED[corpus.source], "caption")
        tidy.append({name: _text(columns[name]) for name in wanted if name in columns})
    return pa.table({name: pa.chunked_array([columns[name] for columns in tidy]) for name in tidy[0]})


def _text(column: pa.Array) -> pa.Array:
    text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    return pc.if_else(pc.equal(text, ""), None, text)
