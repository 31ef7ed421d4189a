"""HMDB-51 action recognition, split 1: zero-shot on the test list, linear probe trained on the training list.

Reads TVTS's lists (`split_1_{train,test}_list.tsv`, labels from 1, and `label2id.json`), or the original split files
(`{class}_test_split1.txt`: `<file> <0 unused | 1 train | 2 test>`), whose class names are the file names with blanks
for underscores.
"""

import re
from pathlib import Path

from tvts.config import Benchmark, UserError
from tvts.evaluate.benchmarks.items import Item, Items, VideoFolder, chosen_split, existing, find, read_tvts_split

EXPECTED = {"classes": 51}
ENDING = re.compile(r"_[fhlu]_(cm|nm)_np\d_(fr|le|ri|ba)_(goo|med|bad)_\d+$")
"""Body part, camera motion, people, view and quality, then the number of the clip."""
OPTIONS = {"split"}


def read(benchmark: Benchmark) -> Items:
    """Items of `options.split` (1 to 3; the paper: 1)."""
    folder, split = existing(benchmark.annotations), chosen_split(benchmark)
    videos = VideoFolder(benchmark.videos)
    official = find(folder, f"split_{split}_test_list.tsv", f"prompt/split_{split}_test_list.tsv")
    if official is None:
        return _original(folder, split, videos)
    train = official.with_name(f"split_{split}_train_list.tsv")
    return read_tvts_split(official, train, first_label=1, find=lambda name, _: videos.find(name), group=_group)


def _original(folder: Path, split: int, videos: VideoFolder) -> Items:
    ending = f"_test_split{split}.txt"
    files = sorted(folder.rglob(f"*{ending}"))
    if not files:
        raise UserError(
            f"{folder}: expected split_{split}_test_list.tsv or <class>{ending}; put the HMDB-51 split files there"
        )
    names = [file.name.removesuffix(ending) for file in files]
    parts: dict[str, list[Item]] = {"0": [], "1": [], "2": []}
    for label, file in enumerate(files):
        for line in file.read_text(encoding="utf-8").splitlines():
            video, _, use = line.strip().rpartition(" ")
            if use not in parts:
                raise UserError(f"{file}: line {line!r} does not end with 0, 1 or 2")
            path = f"{names[label]}/{video.strip()}"
            parts[use].append(Item(path, videos.find(path), label=label, group=_group(path)))
    return Items(parts["2"], parts["1"], [name.replace("_", " ") for name in names])


def _group(name: str) -> str:
    """`brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi` -> `April_09`: the film that clips of any class are cut from."""
    folder, _, file = name.rpartition("/")
    stem = ENDING.sub("", file.rsplit(".", 1)[0])
    return stem.removesuffix(f"_{folder}")
