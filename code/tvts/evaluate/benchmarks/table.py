"""Your own benchmark: a folder with `test.csv` or `test.parquet` (or one such file of any name), and beside it, if needed,
`train.*` and `classes.json`.

Columns: `path` (relative to `videos`), optionally `id`; `text` for retrieval (videos may repeat: several texts for
one video); `label` for recognition and linear probe; `options` (JSON list) and `answer` for multiple choice; `group` for
clips of one source, which a probe's held-out part never shares with what it is fitted on. Every other column is a tag:
its values are reported as subsets. `classes.json`: list of prompts in index order, or a mapping label -> prompt;
prompts are used as they are unless `options.prompts` gives templates.
"""

import json
from pathlib import Path
from typing import Any

from tvts.config import Benchmark, UserError
from tvts.evaluate.benchmarks.items import (
    Item,
    Items,
    VideoFolder,
    existing,
    find,
    locate,
    read_json_file,
    read_records,
)

MEANINGS = {"id", "path", "text", "label", "options", "answer", "group"}


def read(benchmark: Benchmark) -> Items:
    """Items in file order."""
    given, videos = existing(benchmark.annotations), VideoFolder(benchmark.videos)
    folder = given if given.is_dir() else given.parent
    labels, prompts = _classes(folder)
    test = _items(locate(folder, "test.csv", "test.parquet") if given.is_dir() else given, videos, labels)
    train = find(folder, "train.csv", "train.parquet")
    return Items(test, _items(train, videos, labels) if train else [], prompts, ("{}",))


def _classes(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Label -> index, and the prompts in index order."""
    path = find(folder, "classes.json")
    content = read_json_file(path) if path else []
    if not isinstance(content, list | dict):
        raise UserError(f"{path}: should be a list of prompts or a mapping label -> prompt")
    labels = {str(name): index for index, name in enumerate(content)}
    return labels, list(content.values()) if isinstance(content, dict) else list(content)


def _items(path: Path, videos: VideoFolder, labels: dict[str, int]) -> list[Item]:
    return [_item(row, number, path, videos, labels) for number, row in enumerate(_rows(path))]


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return [dict(row) for row in read_records(path, "path")]
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    if "path" not in table.column_names:
        raise UserError(f"{path}: no column path; found {', '.join(table.column_names)}")
    return list(table.to_pylist())


def _item(row: dict[str, Any], number: int, path: Path, videos: VideoFolder, labels: dict[str, int]) -> Item:
    return Item(
        id=str(row.get("id") or number),
        video=videos.find(row["path"]),
        text=row.get("text"),
        label=_label(row["label"], path, labels) if row.get("label") not in (None, "") else None,
        options=tuple(json.loads(row["options"])) if row.get("options") else (),
        answer=int(row["answer"]) if row.get("answer") not in (None, "") else None,
        group=row.get("group") or None,
        tags={name: str(value) for name, value in row.items() if name not in MEANINGS and value is not None},
    )


def _label(label: Any, path: Path, labels: dict[str, int]) -> int:
    """Index of a label given by its name in classes.json, or by its index."""
    if str(label) in labels:
        return labels[str(label)]
    if str(label).isdigit():
        return int(label)
    raise UserError(
        f"{path}: label {label!r} is not in classes.json; give a name from there or an index, or leave the column out"
    )
