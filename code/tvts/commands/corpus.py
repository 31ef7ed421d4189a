"""`tvts plan` to `tvts card`: from a list of videos to a dataset."""

from pathlib import Path
from typing import Annotated

import typer

from tvts.commands.options import Output, Running, Settings, Threads

app = typer.Typer()


@app.command()
def plan(settings: Settings, output: Output) -> None:
    """Check a list of videos, and the tools to fetch them with, and fix the shard of each video.

    Example: tvts plan --settings @corpus.json --output plan.parquet
    """
    from tvts.config import Corpus, read_settings
    from tvts.corpus.plan import plan as make_plan
    from tvts.corpus.youtube import check_tools

    corpus = read_settings(Corpus, settings)
    if corpus.source == "youtube":
        check_tools()
    make_plan(corpus, output)


@app.command()
def download(
    plan: Annotated[Path, typer.Option(help="plan.parquet of the corpus.")],
    shard: Annotated[int, typer.Option(min=0, help="Shard number.")],
    settings: Settings,
    tar: Output,
    index: Output,
    running: Running = "{}",
    threads: Threads = 1,
    videos_per_hour: Annotated[int, typer.Option(min=1, help="YouTube: over all jobs of all corpora.")] = 300,
) -> None:
    """Fetch, cut, transcode and verify one shard of videos.

    Example: tvts download --plan plan.parquet --shard 0 --settings @corpus.json --tar 00000.tar --index 00000.parquet
    """
    from tvts.config import Corpus, read_settings
    from tvts.corpus.fetch import fetch_shard
    from tvts.corpus.transcribe import make_reader

    corpus = read_settings(Corpus, settings, running)
    words = make_reader(corpus.transcribe) if corpus.fetch.spans.place == "words" else None
    fetch_shard(
        plan,
        shard,
        corpus.source,
        corpus.fetch,
        corpus.seed,
        tar,
        index,
        threads=threads,
        videos_per_hour=videos_per_hour,
        words=words,
    )


@app.command()
def retry(
    clips: Annotated[Path, typer.Argument(help="results/corpora/CORPUS/clips")],
) -> None:
    """Have the next run of the workflow try again what failed for reasons that may have passed; all else is kept.

    Example: tvts retry results/corpora/mine/clips
    """
    from tvts.corpus.work import reopen

    shards, videos = reopen(clips)
    print(
        f"{clips}: {videos} videos of {shards} shards are tried again by the next run; nothing else of them is redone"
    )


@app.command()
def annotations(
    folder: Annotated[Path, typer.Argument(help="Folder of YT-Temporal's .jsonl[.gz] files.")],
    output: Output,
) -> None:
    """Index YT-Temporal's annotations by video, once, so that no shard searches through them.

    Example: tvts annotations data/yt_temporal/annotations --output annotations.sqlite
    """
    from tvts.corpus.transcribe.yt_temporal import index_annotations

    index_annotations(folder, output)


@app.command()
def transcribe(
    tar: Annotated[Path, typer.Option(help="Clips of the shard.")],
    index: Annotated[Path, typer.Option(help="Their index.")],
    settings: Settings,
    output: Output,
    running: Running = "{}",
    threads: Threads = 1,
) -> None:
    """Turn the speech of one shard into words with times.

    Example: tvts transcribe --tar 00000.tar --index 00000.parquet --settings '{"engine": "pocketsphinx"}' --output words.parquet
    """
    from tvts.config import Transcribe, read_settings
    from tvts.corpus.transcribe import transcribe_shard

    transcribe_shard(tar, index, read_settings(Transcribe, settings, running), output, threads)


@app.command()
def dataset(
    index: Annotated[Path, typer.Option(help="Index of the shard's clips.")],
    settings: Settings,
    output: Output,
    transcripts: Annotated[Path | None, typer.Option(help="Its transcripts; none for captions.")] = None,
) -> None:
    """Clean the transcripts of one shard and find its usable windows.

    Example: tvts dataset --index 00000.parquet --transcripts words.parquet --settings @dataset.json --output rows.parquet
    """
    from tvts.config import Dataset, read_settings
    from tvts.corpus.dataset import build_shard

    build_shard(index, transcripts, read_settings(Dataset, settings), output)


@app.command()
def card(
    plan: Annotated[Path, typer.Option(help="plan.parquet of the corpus.")],
    clips: Annotated[Path, typer.Option(help="Folder of clip indexes.")],
    shards: Annotated[Path, typer.Option(help="Folder of dataset shards.")],
    settings: Settings,
    output: Output,
    transcripts: Annotated[Path | None, typer.Option(help="Folder of transcripts; none for captions.")] = None,
) -> None:
    """Sum a dataset up: what was lost where, what it cost, and the hash of all that went in.

    Example: tvts card --plan plan.parquet --clips clips/ --transcripts transcripts/ --shards datasets/mine/ --settings @dataset.json
    --output datasets/mine/card.json
    """
    from tvts.config import Dataset, read_settings
    from tvts.corpus.dataset import build_card, build_cost

    build_card(plan, clips, shards, read_settings(Dataset, settings), output)
    build_cost(plan, clips, transcripts, output.with_name("cost.json"))
