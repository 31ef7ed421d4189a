"""What the ids and addresses of a corpus may look like. Lists are untrusted text: nothing in them may name a file or an option unasked."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tvts.config import Corpus

YOUTUBE_ID = r"^[A-Za-z0-9_-]{11}$"
ID = r"^[\p{L}\p{N}_-][\p{L}\p{M}\p{N} _.,:+=@~()-]*(/[\p{L}\p{N}_-][\p{L}\p{M}\p{N} _.,:+=@~()-]*)*$"
"""Letters and digits of any script and some punctuation; folders allowed, but never `..`, a hidden or an absolute one."""
MAX_ID_BYTES = 200
URL = r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s\p{C}]+$"
MAX_URL_BYTES = 2000
YOUTUBE_URL = "https://www.youtube.com/watch?v="

Kinds = dict[str, pa.BooleanArray]
"""Kind of defect -> mask of the rows that have it."""


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
        if corpus.root or Path(corpus.list).is_dir():
            kinds["path outside the corpus's root"] = pc.match_substring_regex(table["path"], r"^/|(^|/)\.\.(/|$)")
    return {kind: pc.fill_null(mask, False) for kind, mask in kinds.items()}


def addresses(table: pa.Table, corpus: Corpus) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Columns url and path of the plan. YouTube addresses are built from the ids; relative paths start at the root."""
    none = pa.chunked_array([pa.nulls(len(table), pa.string())])
    if corpus.source == "youtube":
        return pc.binary_join_element_wise(YOUTUBE_URL, table["id"], ""), none
    if corpus.source == "http":
        return table["url"], none
    root = f"{_root(corpus).resolve()}/"
    return none, pc.if_else(
        pc.starts_with(table["path"], "/"), table["path"], pc.binary_join_element_wise(root, table["path"], "")
    )


def _root(corpus: Corpus) -> Path:
    """Where relative paths of a local corpus start."""
    listed = Path(corpus.list)
    return Path(corpus.root) if corpus.root else listed if listed.is_dir() else listed.parent
