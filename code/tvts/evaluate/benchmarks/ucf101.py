"""UCF-101 action recognition, split 1: zero-shot on the test list (3,783 videos), linear probe trained on the
training list.

Reads TVTS's lists (`{train,test}list01_new.tsv`, labels from 1, and `label2id.json`), or the original folder
`ucfTrainTestlist` (`classInd.txt`, `trainlist01.txt`, `testlist01.txt`), whose CamelCase class names become
lower-case words.
"""

import re
from pathlib import Path

from tvts.config import Benchmark, UserError
from tvts.evaluate.benchmarks.items import (
    Item,
    Items,
    VideoFolder,
    chosen_split,
    existing,
    find,
    locate,
    read_tvts_split,
)

EXPECTED = {"classes": 101}
OPTIONS = {"split"}


def read(benchmark: Benchmark) -> Items:
    """Items of `options.split` (1 to 3; the paper: 1)."""
    folder, split = existing(benchmark.annotations), chosen_split(benchmark)
    videos = VideoFolder(benchmark.videos)
    official = find(folder, f"testlist{split:02d}_new.tsv", f"prompt/testlist{split:02d}_new.tsv")
    if official is None:
        return _original(folder, split, videos)
    train = official.with_name(f"trainlist{split:02d}_new.tsv")
    return read_tvts_split(official, train, first_label=1, find=lambda name, _: videos.find(name), group=_group)


def _original(folder: Path, split: int, videos: VideoFolder) -> Items:
    classes = [
        line.split()[1]
        for line in locate(folder, "classInd.txt").read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    index = {name: label for label, name in enumerate(classes)}

    def items(path: Path | None) -> list[Item]:
        names = (
            [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()] if path else []
        )
        for name in names:
            if name.split("/")[0] not in index:
                raise UserError(f"{path}: {name} lies in no class of classInd.txt")
        return [Item(name, videos.find(name), label=index[name.split("/")[0]], group=_group(name)) for name in names]

    test = items(locate(folder, f"testlist{split:02d}.txt"))
    return Items(test, items(find(folder, f"trainlist{split:02d}.txt")), [_words(name) for name in classes])


def _group(name: str) -> str:
    """`Archery/v_Archery_g01_c02.avi` -> `v_Archery_g01`: a class has 25 groups of clips cut from one video each."""
    return name.rsplit("/", 1)[-1].rsplit("_c", 1)[0]


def _words(name: str) -> str:
    """`ApplyEyeMakeup` -> `apply eye makeup`."""
    return " ".join(re.findall(r"[A-Z][a-z]*|[a-z]+|\d+", name)).lower()
