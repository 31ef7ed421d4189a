"""How well the demo's narration was understood: word error rate of the transcripts against the script that was spoken.

python demo/word_errors.py --script script.json --transcripts DIR --output table.csv
"""

import argparse
import collections
import csv
import json
from pathlib import Path

import pyarrow.parquet as pq

from tvts.corpus.transcripts import spoken, word_error_rate


def count_errors(script: Path, transcripts: Path) -> dict[str, list[float]]:
    """Voice -> [videos, words spoken, words wrong]; `all` sums the voices."""
    truth = json.loads(script.read_text())
    counts: dict[str, list[float]] = collections.defaultdict(lambda: [0, 0, 0.0])
    for path in sorted(transcripts.glob("*.parquet")):
        for row in pq.read_table(path, columns=["id", "words"]).to_pylist():
            said = " ".join(event["text"] for event in truth[row["id"]]["events"])
            heard = " ".join(word["word"] for word in row["words"])
            length = len(spoken(said).split())
            for voice in (truth[row["id"]]["voice"], "all"):
                counts[voice][0] += 1
                counts[voice][1] += length
                counts[voice][2] += word_error_rate(said, heard) * length
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--transcripts", type=Path, required=True, help="folder of transcript shards")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    with open(options.output, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("voice", "videos", "words", "word error rate (%)"))
        for voice, (videos, words, wrong) in sorted(count_errors(options.script, options.transcripts).items()):
            table.writerow((voice, videos, words, f"{100 * wrong / words:.1f}"))


if __name__ == "__main__":
    main()
