"""What every benchmark becomes (`Items`), and the helpers adapters share: files, tables, labels, videos by name."""

import csv
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvts.config import Benchmark, UserError

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".3gp", ".wmv", ".flv", ".mts")


@dataclass(frozen=True)
class Item:
    """One video of a benchmark and what is asked about it."""

    id: str
    video: Path
    text: str | None = None
    """Caption (retrieval)."""
    label: int | None = None
    """Index in `Items.classes` (recognition, linear probe)."""
    options: tuple[str, ...] = ()
    """Candidate texts (multiple choice)."""
    answer: int | None = None
    """Index of the right option."""
    group: str | None = None
    """Clips of one source video share it; they never lie on both sides of a held-out split. None = a group of its own."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Subsets that are reported on their own, such as {"concepts": "unseen"}."""


@dataclass(frozen=True)
class Items:
    """A benchmark: reported items, items to train a probe on, class names in index order, templates of class names."""

    test: list[Item]
    train: list[Item] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    prompts: tuple[str, ...] | None = None
    """Templates with one `{}`; none = the evaluation's template."""

    def with_prompts(self, prompts: Any) -> "Items":
        """The same items with other templates. Raises UserError unless each has exactly one `{}`."""
        if (
            not isinstance(prompts, list)
            or not prompts
            or not all(isinstance(p, str) and p.count("{}") == 1 for p in prompts)
        ):
            raise UserError(
                f"benchmark option prompts: got {prompts!r}; should be a list of templates with one {{}} each"
            )
        return dataclasses.replace(self, prompts=tuple(prompts))


def check(items: Items, benchmark: Benchmark, expected: Mapping[str, int]) -> None:
    """Check that items answer the benchmark's protocols and have the `expected` counts (keys: items, classes,
    options).
    """
    where = f"{benchmark.adapter} {benchmark.annotations}"
    if not isinstance(expected, Mapping) or set(expected) - {"items", "classes", "options"}:
        raise UserError(
            f"benchmark option expected: got {expected!r}; should map items, classes or options to a count, or be null"
        )
    if not items.test:
        raise UserError(f"{where}: no test items")
    found = {
        "items": {len(items.test)},
        "classes": {len(items.classes)},
        "options": {len(item.options) for item in items.test},
    }
    for what, count in expected.items():
        if found[what] != {count}:
            counts = ", ".join(map(str, sorted(found[what])[:3]))
            raise UserError(
                f"{where}: expected {count} {what}, found {counts}; set options.expected (null = any) if this is on purpose"
            )
    duplicates = len(items.test) - len({item.id for item in items.test})
    if duplicates:
        raise UserError(f"{where}: {duplicates} test items repeat an id; one row per item expected")
    _check_protocols(items, benchmark, where)


def _check_protocols(items: Items, benchmark: Benchmark, where: str) -> None:
    every = [*items.test, *items.train]
    if "retrieval" in benchmark.protocols:
        _refuse(where, "no text", [item.id for item in items.test if not item.text])
    if {"recognition", "linear_probe"} & set(benchmark.protocols):
        _refuse(
            where,
            f"a label outside 0..{len(items.classes) - 1}",
            [i.id for i in every if not _within(i.label, items.classes)],
        )
    if "linear_probe" in benchmark.protocols and not items.train:
        raise UserError(
            f"{where}: linear_probe needs training items and none were found; add the training list or drop the protocol"
        )
    if "multiple_choice" in benchmark.protocols:
        _refuse(where, "an answer outside its options", [i.id for i in items.test if not _within(i.answer, i.options)])


def _refuse(where: str, what: str, ids: list[str]) -> None:
    if ids:
        raise UserError(f"{where}: {len(ids)} items have {what}; the first is {ids[0]!r}")


def _within(index: int | None, choices: Sequence[str]) -> bool:
    return index is not None and 0 <= index < len(choices)


# --- files ------------------------------------------------------------------------------------------------------------


def locate(folder: str | Path, *names: str) -> Path:
    """The first of `names` that exists under `folder`. Raises UserError naming all of them."""
    found = find(folder, *names)
    if found is None:
        raise UserError(
            f"{folder}: expected one of {', '.join(names)}; put the file there or correct annotations in the config"
        )
    return found


def find(folder: str | Path, *names: str) -> Path | None:
    """The first of `names` that exists under `folder`, or None."""
    return next((Path(folder) / name for name in names if (Path(folder) / name).exists()), None)


def existing(path: str | Path) -> Path:
    """`path` if it exists. Raises UserError."""
    if not Path(path).exists():
        raise UserError(f"{path}: no such annotation file or folder")
    return Path(path)


def chosen_split(benchmark: Benchmark) -> int:
    """`options.split`, the official split to use: 1 (default, the paper's), 2 or 3."""
    split = benchmark.options.get("split", 1)
    if split not in (1, 2, 3):
        raise UserError(f"benchmark option split: got {split!r}; should be 1, 2 or 3")
    return int(split)


def read_json_file(path: Path) -> Any:
    """A JSON file. Raises UserError if it is not valid."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None


def read_json_lines(path: Path) -> list[Any]:
    """One JSON value per line. Raises UserError naming the line."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise UserError(f"{path} line {number}: not valid JSON: {error}") from None
    return rows


def read_rows(path: Path, delimiter: str, columns: int) -> list[list[str]]:
    """Rows of a delimited file as strings, quotes kept, blank lines dropped.

    Raises UserError for a row of fewer than `columns`.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        rows = [(number, row) for number, row in enumerate(reader, 1) if row]
    for number, row in rows:
        if len(row) < columns:
            raise UserError(f"{path} line {number}: expected at least {columns} columns, found {len(row)}")
    return [row for _, row in rows]


def read_records(path: Path, *required: str) -> list[dict[str, str]]:
    """Rows of a CSV file with a header. Raises UserError if a required column is absent."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        absent = [column for column in required if column not in (reader.fieldnames or [])]
        if absent:
            raise UserError(
                f"{path}: no column {', '.join(absent)}; found {', '.join(reader.fieldnames or []) or 'an empty file'}"
            )
        return list(reader)


def read_label2id(path: Path) -> list[str]:
    """Class names of TVTS's `label2id.json`, in file order.

    Raises UserError unless stored ids equal the file order (from 0 or 1).
    """
    mapping = read_json_file(path)
    ids = [int(value) for value in mapping.values()]
    if ids not in (list(range(len(ids))), list(range(1, len(ids) + 1))):
        raise UserError(
            f"{path}: ids do not count up in file order, so the class order is ambiguous; reorder the file by id"
        )
    return list(mapping)


def read_labelled_tsv(path: Path, first_label: int) -> list[tuple[str, int]]:
    """TVTS's `<path> TAB <label>` lists as (path, 0-based label).

    A first line whose second column is no number is a header.
    """
    rows = read_rows(path, "\t", 2)
    if rows and not rows[0][1].strip().isdigit():
        rows = rows[1:]
    for row in rows:
        if not row[1].strip().isdigit():
            raise UserError(f"{path}: label {row[1]!r} of {row[0]} is not a number")
    return [(row[0].strip(), int(row[1]) - first_label) for row in rows]


def read_tvts_split(
    test: Path,
    train: Path,
    first_label: int,
    find: Callable[[str, str], Path],
    group: Callable[[str], str | None] = lambda path: None,
) -> Items:
    """TVTS's recognition lists with the `label2id.json` beside them; no training list = no training items.

    `find(path, split)` gives the video of a listed path, `group(path)` its source video.
    """

    def items(path: Path, split: str) -> list[Item]:
        rows = read_labelled_tsv(path, first_label) if path.exists() else []
        return [Item(name, find(name, split), label=label, group=group(name)) for name, label in rows]

    return Items(items(test, "test"), items(train, "train"), read_label2id(locate(test.parent, "label2id.json")))


# --- videos -----------------------------------------------------------------------------------------------------------


class VideoFolder:
    """Videos below a folder, found by relative path or, failing that, by file name with any video suffix."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"{root}: no such video folder; put the videos there or correct videos in the config")

    def find(self, name: str, *alternatives: str) -> Path:
        """Path of `name` (or an alternative), by relative path, else by stem; `root/name` if there is none: such an
        item is counted missing.
        """
        for candidate in (name, *alternatives):
            if (self.root / candidate).is_file():
                return self.root / candidate
        stems = (_stem(candidate) for candidate in (name, *alternatives))
        return next((self._by_stem[stem] for stem in stems if stem in self._by_stem), self.root / name)

    @functools.cached_property
    def _by_stem(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder, folders, files in os.walk(self.root):
            folders.sort()
            for file in sorted(files):
                if file.lower().endswith(VIDEO_SUFFIXES):
                    found.setdefault(_stem(file), Path(folder, file))
        return found


def _stem(name: str) -> str:
    """File name without folder and video suffix (other dots belong to the name)."""
    file = name.rsplit("/", 1)[-1]
    suffix = next((suffix for suffix in VIDEO_SUFFIXES if file.lower().endswith(suffix)), "")
    return file[: len(file) - len(suffix)]
