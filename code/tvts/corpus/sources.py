"""Where videos are listed: CSV, TSV, text, Parquet; and what ids and addresses may look like. Lists are untrusted text."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from tvts.config import Corpus, UserError

NEEDED = {"youtube": ("id",), "http": ("id", "url"), "local": ("id", "path")}
COLUMNS = ("id", "url", "path", "caption")
WEBVID = {"videoid": "id", "contentUrl": "url", "name": "caption", "page_dir": "page_dir"}
"""Columns of WebVid's own lists, read as ours. Its videos lie at `page_dir/videoid.mp4`."""

YOUTUBE_ID = r"^[A-Za-z0-9_-]{11}$"
ID = r"^[\p{L}\p{N}_-][\p{L}\p{M}\p{N} _.,:+=@~()-]*(/[\p{L}\p{N}_-][\p{L}\p{M}\p{N} _.,:+=@~()-]*)*$"
"""Letters and digits of any script and some punctuation; folders allowed, but never `..`, a hidden or an absolute one."""
MAX_ID_BYTES = 200
URL = r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s\p{C}]+$"
MAX_URL_BYTES = 2000
YOUTUBE_URL = "https://www.youtube.com/watch?v="

Kinds = dict[str, pa.BooleanArray]
"""Kind of defect -> mask of the rows that have it."""


def read_list(corpus: Corpus) -> tuple[pa.Table, int]:
    """The list as columns id, url or path, and caption if there is one (strings), and the number of lines that could not be parsed.

    A text file holds one id (`youtube`), URL or path per line; for URLs and paths the id is the file's name without extension.
    """
    path = Path(corpus.list)
    if not path.is_file():
        raise UserError(f"corpus list {path}: no such file; {corpus.obtain}")
    try:
        table, unparsed = _read(path, corpus)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"corpus list {path}: cannot be read ({reason}); expected UTF-8 {path.suffix[1:]}") from error
    needed = NEEDED[corpus.source]
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise UserError(
            f"corpus list {path}: column {missing[0]!r} is missing; source {corpus.source} needs {' and '.join(needed)}"
        )
    return table, unparsed


def _read(path: Path, corpus: Corpus) -> tuple[pa.Table, int]:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix == ".parquet":
        names = _known(pq.read_schema(path).names)
        return _tidy(pq.ParquetFile(path).iter_batches(columns=names), names, corpus), 0
    if suffix == ".txt":
        table = _one_per_line(path, corpus.source)
        return _tidy(table.to_batches(), table.column_names, corpus), 0
    if suffix not in (".csv", ".tsv"):
        found = path.suffix or "no extension"
        raise UserError(f"corpus list {path}: expected .csv, .tsv (.gz may follow), .txt or .parquet, found {found}")
    return _read_csv(path, "\t" if suffix == ".tsv" else ",", corpus)


def _read_csv(path: Path, delimiter: str, corpus: Corpus) -> tuple[pa.Table, int]:
    unparsed = 0

    def skip(row: pa.csv.InvalidRow) -> str:
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


def _one_per_line(path: Path, source: str) -> pa.Table:
    stripped = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    lines = pa.array([line for line in stripped if line and not line.startswith("#")], pa.string())
    if source == "youtube":
        return pa.table({"id": lines})
    names = pc.replace_substring_regex(lines, r"^.*/|[?#].*$", "")
    return pa.table(
        {
            "id": pc.replace_substring_regex(names, r"\.[A-Za-z0-9]{1,5}$", ""),
            "url" if source == "http" else "path": lines,
        }
    )


def _text(column: pa.Array) -> pa.Array:
    text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    return pc.if_else(pc.equal(text, ""), None, text)


def defects(table: pa.Table, corpus: Corpus) -> Kinds:
    """Which rows cannot be used, by kind. A row may have several."""
    ids = table["id"]
    kinds = {
        "no id": pc.is_null(ids),
        "id that is not a YouTube id" if corpus.source == "youtube" else "id with characters that are not allowed":
            pc.invert(pc.match_substring_regex(ids, YOUTUBE_ID if corpus.source == "youtube" else ID)),
        f"id longer than {MAX_ID_BYTES} bytes": pc.greater(pc.binary_length(ids), MAX_ID_BYTES),
    }  # fmt: skip
    if corpus.source == "http":
        kinds["no url"] = pc.is_null(table["url"])
        kinds["url that is not one"] = pc.invert(pc.match_substring_regex(table["url"], URL))
        kinds[f"url longer than {MAX_URL_BYTES} bytes"] = pc.greater(pc.binary_length(table["url"]), MAX_URL_BYTES)
    if corpus.source == "local":
        kinds["no path"] = pc.is_null(table["path"])
        kinds["path with control characters"] = pc.match_substring_regex(table["path"], r"\p{Cc}")
        if corpus.root is not None:
            kinds["path outside the corpus's root"] = pc.match_substring_regex(table["path"], r"^/|(^|/)\.\.(/|$)")
    return {kind: pc.fill_null(mask, False) for kind, mask in kinds.items()}


def addresses(table: pa.Table, corpus: Corpus) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Columns url and path of the plan. YouTube addresses are built from the ids; relative paths start at the root."""
    none = pa.chunked_array([pa.nulls(len(table), pa.string())])
    if corpus.source == "youtube":
        return pc.binary_join_element_wise(YOUTUBE_URL, table["id"], ""), none
    if corpus.source == "http":
        return table["url"], none
    root = f"{Path(corpus.root or Path(corpus.list).parent).resolve()}/"
    return none, pc.if_else(
        pc.starts_with(table["path"], "/"), table["path"], pc.binary_join_element_wise(root, table["path"], "")
    )
