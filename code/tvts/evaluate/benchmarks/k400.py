"""Kinetics-400 action recognition: zero-shot on the validation set, linear probe trained on the training set.

Reads TVTS's lists (`kinetics400_{train,val}_list_videos.tsv`, `<class>/<file>` with labels from 0, and
`label2id.json`), or the original `{train,val}.csv` (`label`, `youtube_id`, `time_start`, `time_end`), whose classes
are the labels in alphabetical order.
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
    read_records,
    read_tvts_split,
)

EXPECTED = {"classes": 400}
FOLDERS = {"test": ("videos_val", "val"), "train": ("train/train", "train")}


def read(benchmark: Benchmark) -> Items:
    """Validation items as test. A clip may lie in the split's folder, its class folder, or anywhere below `videos`."""
    folder, videos = existing(benchmark.annotations), VideoFolder(benchmark.videos)
    official = find(folder, "kinetics400_val_list_videos.tsv", "prompt/kinetics400_val_list_videos.tsv")
    if official is None:
        return _original(folder, videos)
    train = official.with_name("kinetics400_train_list_videos.tsv")

    def listed(name: str, split: str) -> Path:
        label, _, file = name.rpartition("/")
        return _find(videos, split, label, file)

    return read_tvts_split(official, train, first_label=0, find=listed)


def _original(folder: Path, videos: VideoFolder) -> Items:
    val, train = locate(folder, "val.csv", "kinetics400_val_list_videos.tsv"), find(folder, "train.csv")
    tables = {"test": _csv(val), "train": _csv(train) if train else []}
    classes = sorted({row["label"] for row in [*tables["test"], *tables["train"]]})
    index = {name: label for label, name in enumerate(classes)}

    def items(split: str) -> list[Item]:
        return [
            Item(row["file"], _find(videos, split, row["label"], row["file"]), label=index[row["label"]])
            for row in tables[split]
        ]

    return Items(items("test"), items("train"), classes)


def _csv(path: Path) -> list[dict[str, str]]:
    """Rows with `file`: `<youtube id>_<start, 6 digits>_<end, 6 digits>.mp4`."""
    rows = read_records(path, "label", "youtube_id", "time_start", "time_end")
    for row in rows:
        try:
            row["file"] = (
                f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}.mp4"
            )
        except ValueError:
            raise UserError(
                f"{path}: times of {row['youtube_id']} are no numbers: {row['time_start']!r}, {row['time_end']!r}"
            ) from None
    return rows


def _find(videos: VideoFolder, split: str, label: str, file: str) -> Path:
    file = file.removesuffix(".mkv").removesuffix(".mp4") + ".mp4"
    places = [f"{folder}/{file}" for folder in FOLDERS[split]] + [
        f"{folder}/{label}/{file}" for folder in FOLDERS[split]
    ]
    return videos.find(places[0], *places[1:], f"{label}/{file}", file)
