"""DiDeMo paragraph retrieval: all descriptions of a video joined to one text, whole videos, ground-truth moments
unused.

Reads TVTS's `DiDeMo_test.tsv` (paragraph, video path) or LocalizingMoments' `test_data.json` (descriptions joined in
file order by one blank). The number of pairs differs between releases (824 to 1,036 in the literature), so it is
reported, not checked.
"""

from pathlib import Path

from tvts.config import Benchmark
from tvts.evaluate.benchmarks.items import (
    VIDEO_SUFFIXES,
    Item,
    Items,
    VideoFolder,
    existing,
    locate,
    read_json_file,
    read_rows,
)


def read(benchmark: Benchmark) -> Items:
    """Items in file order."""
    source = existing(benchmark.annotations)
    source = locate(source, "DiDeMo_test.tsv", "test_data.json") if source.is_dir() else source
    paragraphs = _moments(source) if source.suffix == ".json" else _tvts(source)
    videos = VideoFolder(benchmark.videos)
    return Items([Item(video, videos.find(video), text=text) for video, text in paragraphs])


def _tvts(path: Path) -> list[tuple[str, str]]:
    """(video, paragraph). The first line is a header unless it names a video."""
    rows = read_rows(path, "\t", 2)
    if rows and not rows[0][1].strip().lower().endswith(VIDEO_SUFFIXES):
        rows = rows[1:]
    return [(row[1].strip(), row[0]) for row in rows]


def _moments(path: Path) -> list[tuple[str, str]]:
    descriptions: dict[str, list[str]] = {}
    for annotation in read_json_file(path):
        descriptions.setdefault(annotation["video"], []).append(annotation["description"])
    return [(video, " ".join(texts)) for video, texts in descriptions.items()]
