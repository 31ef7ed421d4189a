"""YT-Temporal-180M annotations: recognised words with times, and a denoised text (case, punctuation, corrections) without times.

Each video is a JSON object (`subtitles`: [{word, time}], `denoised`: [{cleanasr, ...}], `info`), in `ID.json` or as a line of the
`*.jsonl` / `*.jsonl.gz` files that the dataset is shipped as, which are indexed once. The denoised tokens are aligned to the recognised
words once, here; the official loader does it for every sample (TVTS: v2/data_loader/YTTemporal_dataset.py).
"""

import contextlib
import gzip
import json
import math
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
from rich.progress import track

from tvts.config import Transcribe, UserError
from tvts.corpus.status import one_line
from tvts.corpus.transcribe.engine import Piece, Reader, Transcript, spread
from tvts.corpus.transcripts import Word, edit_distances, spoken
from tvts.files import atomic, storable

INDEX_SUFFIX = ".sqlite"
_BAND_SHARE, _BAND_WORDS = 0.1, 32


class YTTemporal(Reader):
    """Reads `transcribe.annotations`: a folder of `ID.json`, or the index that `index_annotations` writes of shipped files."""

    def __init__(self, settings: Transcribe, threads: int) -> None:
        given = settings.annotations or ""
        self.index = Path(given) if given.endswith(INDEX_SUFFIX) else None
        if self.index is None:
            super().__init__(settings, threads)
            if shipped := _shipped(self.folder):
                raise UserError(
                    f"transcribe.annotations: {shipped[0]} would be searched for every shard; index the folder once with"
                    f" `tvts annotations {self.folder} --output FILE{INDEX_SUFFIX}` and give that file"
                )
        elif not self.index.is_file():
            raise UserError(f"transcribe.annotations: {self.index}: no such file; `tvts annotations` writes it")
        self.language = settings.language

    def read(self, id: str) -> Transcript:
        stored = self.source(id)
        if not stored:
            where = self.index or self.folder
            return Transcript(status="no_captions", message=f"no annotations of {id} in {where}")
        annotation = json.loads(stored)
        return Transcript(words(annotation), self.language, [] if annotation.get("denoised") else ["not_denoised"])

    def source(self, id: str) -> bytes:
        if self.index is None:
            path = self.folder / f"{id}.json"
            return path.read_bytes() if path.is_file() else b""
        with contextlib.closing(sqlite3.connect(f"{self.index.resolve().as_uri()}?immutable=1", uri=True)) as index:
            found = index.execute("SELECT packed FROM annotations WHERE id = ? ORDER BY rowid", [id]).fetchone()
        return zlib.decompress(found[0]) if found else b""


def index_annotations(folder: Path, output: Path) -> None:
    """Write one SQLite file with the annotations of every video in `folder` by id, from `*.jsonl`, `*.jsonl.gz` and `ID.json` files.

    So a video is found at once instead of by a search through all files for every shard. The first of equal ids counts; lines that are no
    annotations are counted and left out. Raises UserError if there is none at all, or if a file is damaged.
    """
    unread = 0

    def rows() -> Iterator[tuple[str, bytes]]:
        nonlocal unread
        for path in track([*_shipped(folder), *sorted(folder.glob("*.json"))], "annotations"):
            try:
                for line in _lines(path):
                    id = _id_of(line, path)
                    if id:
                        yield id, zlib.compress(line.encode(), 1)
                    else:
                        unread += 1
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UserError(f"{path}: damaged ({one_line(str(error))}); get it again") from error

    with atomic(output) as temporary, contextlib.closing(sqlite3.connect(temporary)) as index:
        index.execute("PRAGMA journal_mode = OFF")
        index.execute("PRAGMA synchronous = OFF")
        index.execute("CREATE TABLE annotations (id TEXT, packed BLOB)")
        index.executemany("INSERT INTO annotations VALUES (?, ?)", rows())
        index.execute("CREATE INDEX by_id ON annotations (id)")
        index.commit()
        found = index.execute("SELECT COUNT(DISTINCT id) FROM annotations").fetchone()[0]
        if not found:
            raise UserError(f"{folder}: no annotations in its .jsonl, .jsonl.gz or .json files ({unread} unreadable)")
    print(f"{output}: {found} videos, {unread} lines that are no annotations")


def _shipped(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")])


def _lines(path: Path) -> Iterator[str]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", errors="replace") as lines:
        yield from lines if ".jsonl" in path.suffixes else [lines.read()]


def _id_of(line: str, path: Path) -> str | None:
    """Whose annotation it is; None if it is none."""
    try:
        annotation = json.loads(line)
        annotation["subtitles"]
        info = annotation.get("info", annotation)
        id = path.stem if path.suffix == ".json" else info.get("display_id") or info.get("id")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return storable(str(id)) if id else None


def words(annotation: dict[str, Any]) -> list[Word]:
    """Denoised tokens of a video with the times of the recognised words they stand for; those words themselves if it was not denoised."""
    subtitles = [
        Piece(ftfy.fix_text(entry["word"]), float(entry["time"]))
        for entry in annotation["subtitles"]
        if not (entry["word"].startswith("&") or entry["word"].endswith(";"))
    ]
    tokens = ftfy.fix_text(" ".join(block["cleanasr"] for block in annotation.get("denoised") or [])).split()
    recognised = spread(subtitles)
    if not tokens or not recognised:
        return recognised
    aligned: list[list[str]] = [[] for _ in recognised]
    for token, position in zip(tokens, align([entry["word"] for entry in recognised], tokens), strict=True):
        aligned[position].append(token)
    return spread(
        [Piece(" ".join(part), entry["start"], entry["end"]) for part, entry in zip(aligned, recognised, strict=True)]
    )


def align(raw: list[str], clean: list[str]) -> list[int]:
    """For each of the `clean` tokens, the position of the `raw` word it stands for; positions do not decrease.

    Dynamic time warping with the words' edit distance as cost, in a band of 10 % or 32 words around the diagonal, whichever is wider
    (MERLOT, TVTS). A token on the path of several raw words goes to the most similar one.
    """
    costs = _costs([spoken(text) for text in raw], [spoken(text) for text in clean])
    steps = _warp(costs)
    positions, row, column = [0] * len(clean), len(raw) - 1, len(clean) - 1
    best = np.full(len(clean), np.iinfo(np.int32).max)
    while row >= 0 and column >= 0:
        if costs[row, column] <= best[column]:
            best[column], positions[column] = costs[row, column], row
        step = steps[row, column]
        row, column = row - (step != 2), column - (step != 1)
    return positions


def _costs(raw: list[str], clean: list[str]) -> np.ndarray:
    """Edit distance of every pair of words -> int32 [raw, clean]; out of the band it is too large to be taken."""
    vocabulary = {text: column for column, text in enumerate(sorted(set(clean)))}
    codes = [[ord(letter) for letter in text] for text in vocabulary]
    distances = {text: edit_distances([ord(letter) for letter in text], codes) for text in set(raw)}
    order = np.array([vocabulary[text] for text in clean])
    costs = np.full((len(raw), len(clean)), 1_000_000, np.int32)
    width = max(_BAND_SHARE * max(len(raw), len(clean)), _BAND_WORDS)
    for row, text in enumerate(raw):
        middle = row * len(clean) / len(raw)
        low, high = max(0, math.ceil(middle - width)), math.floor(middle + width) + 1
        costs[row, low:high] = distances[text][order[low:high]]
    return costs


def _warp(costs: np.ndarray) -> np.ndarray:
    """Best step into each cell: 0 from the diagonal, 1 from the row above, 2 from the column before -> int8 [rows, columns]."""
    rows, columns = costs.shape
    steps = np.zeros((rows, columns), np.int8)
    above = np.full(columns + 1, np.iinfo(np.int64).max // 4)
    above[0] = 0
    for row in range(rows):
        cost = costs[row].astype(np.int64)
        entered = np.minimum(above[:-1], above[1:])
        before = np.cumsum(cost) - cost
        totals = np.minimum.accumulate(entered - before) + before
        steps[row] = np.where(totals < entered, 2, above[1:] < above[:-1])
        above = np.concatenate([[np.iinfo(np.int64).max // 4], totals + cost])
    return steps
