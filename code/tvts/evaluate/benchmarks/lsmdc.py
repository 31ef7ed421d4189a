"""LSMDC text-to-video retrieval: 1,000 film clips with one sentence each.

Reads `LSMDC16_challenge_1000_publictect.csv`: tab separated, clip id first, sentence last, no header (a header line
is recognised), no quoting: read with the usual CSV rules it would lose its first pair and merge rows at stray quotes.
"""

import re

from tvts.config import Benchmark
from tvts.evaluate.benchmarks.items import Item, Items, VideoFolder, existing, locate, read_rows

EXPECTED = {"items": 1000}
CLIP_ID = re.compile(r".*_\d\d\.\d\d\.\d\d\.\d\d\d-\d\d\.\d\d\.\d\d\.\d\d\d")


def read(benchmark: Benchmark) -> Items:
    """Items in file order; videos are `<film>/<clip id>.avi`, or the clip id in any folder and format."""
    source = existing(benchmark.annotations)
    source = locate(source, "LSMDC16_challenge_1000_publictect.csv") if source.is_dir() else source
    rows = read_rows(source, "\t", 2)
    if rows and not CLIP_ID.fullmatch(rows[0][0].strip()):
        rows = rows[1:]
    videos = VideoFolder(benchmark.videos)
    return Items([Item(row[0].strip(), videos.find(_path(row[0].strip())), text=row[-1].strip()) for row in rows])


def _path(clip: str) -> str:
    """`0017_Pianist_00.23.28.872-00.23.34.843` -> `0017_Pianist/0017_Pianist_00.23.28.872-00.23.34.843.avi`."""
    film = clip.split(".")[0].rsplit("_", 1)[0]
    return f"{film}/{clip}.avi"
