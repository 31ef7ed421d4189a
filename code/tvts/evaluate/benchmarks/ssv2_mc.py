"""SSV2-MC: which of 174 texts describes a Something-Something V2 video.

Reads TVTS's `val.jsonl` (`clip_name`, `options`, `answer`; options verbatim, no template). A folder with the
dataset's own validation list and `labels.json` gives the same task over the 174 class names; its distractors are then
all classes, not those of the paper.
"""

from pathlib import Path

from tvts.config import Benchmark, UserError
from tvts.evaluate.benchmarks.items import (
    Item,
    Items,
    VideoFolder,
    existing,
    find,
    locate,
    read_json_file,
    read_json_lines,
)

EXPECTED = {"options": 174}
FIELDS = ("clip_name", "options", "answer")


def read(benchmark: Benchmark) -> Items:
    """Items in file order."""
    source, videos = existing(benchmark.annotations), VideoFolder(benchmark.videos)
    lines = find(source, "val.jsonl", "mc/val.jsonl") if source.is_dir() else source
    return _labels(source, videos) if lines is None else _tvts(lines, videos)


def _tvts(path: Path, videos: VideoFolder) -> Items:
    items = []
    for number, row in enumerate(read_json_lines(path), 1):
        if not isinstance(row, dict) or any(field not in row for field in FIELDS):
            raise UserError(f"{path} item {number}: expected an object with {', '.join(FIELDS)}")
        options = tuple(map(str, row["options"]))
        items.append(Item(row["clip_name"], videos.find(row["clip_name"]), options=options, answer=int(row["answer"])))
    return Items(items)


def _labels(folder: Path, videos: VideoFolder) -> Items:
    listed = locate(folder, "something-something-v2-validation.json", "validation.json", "val.jsonl")
    labels = {
        name: int(index)
        for name, index in read_json_file(locate(folder, "labels.json", "something-something-v2-labels.json")).items()
    }
    options = tuple(sorted(labels, key=labels.__getitem__))
    items = []
    for row in read_json_file(listed):
        name = row["template"].replace("[", "").replace("]", "")
        if name not in labels:
            raise UserError(f"{listed}: template {row['template']!r} of video {row['id']} is not in labels.json")
        items.append(Item(str(row["id"]), videos.find(f"{row['id']}.webm"), options=options, answer=labels[name]))
    return Items(items)
