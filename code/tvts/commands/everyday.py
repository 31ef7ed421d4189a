"""Commands for people rather than rules: what this machine lacks, and a finished model on one's own videos."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvts.commands.options import Results, Threads
from tvts.config import UserError

if TYPE_CHECKING:
    from tvts.search.library import Embedded

app = typer.Typer()

ModelFolder = Annotated[Path, typer.Option(help="Model folder, such as results/runs/RUN/model.")]
Keep = Annotated[Path, typer.Option(help="Folder in which features are kept, by content.")]
KEPT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tvts"
CORES = len(os.sched_getaffinity(0))


@app.command()
def doctor(
    results: Results = Path("results"),
) -> None:
    """Look for what this machine has and lacks; says what to do about each. Exits 1 when something needed by all is missing.

    Example: tvts doctor
    """
    from rich.console import Console
    from rich.text import Text

    from tvts.doctor import examine

    console, problems = Console(highlight=False), 0
    colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
    for finding in examine(results):
        problems += finding.state == "problem"
        state = Text(f"{finding.state:8}", style=colours[finding.state])
        console.print(state, Text(f"{finding.subject:10} {finding.found}"), soft_wrap=True)
        if finding.fix:
            console.print(Text(f"{'':20}-> {finding.fix}"), soft_wrap=True)
    sys.exit(problems > 0)


@app.command()
def embed(
    videos: Annotated[list[Path], typer.Argument(help="Video files.")],
    model: ModelFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")] = Path("features.parquet"),
    span: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds per row, each half over the one before; none = a row per video."),
    ] = None,
    keep: Keep = KEPT,
    threads: Threads = CORES,
) -> None:
    """Turn videos into features with a finished model: one row per video, or per span of it.

    Example: tvts embed *.mp4 --model results/runs/demo/model -o features.parquet
    """
    from tvts.config.errors import for_people
    from tvts.search.library import Library, write_features

    with for_people():
        library = Library(model, span, keep, threads, "auto")
        rows = write_features(library, told(library.embed(videos), len(videos)), output)
    if not rows:
        raise UserError(f"{output}: none of the {len(videos)} videos could be read; its column `message` says why")
    print(f"{output}: {_count(rows, 'row')}")


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="What is seen, in a few words.")],
    videos: Annotated[Path, typer.Option(help="Folder of videos; its subfolders too.")],
    model: ModelFolder,
    top: Annotated[int, typer.Option(min=1, help="How many spans to show.")] = 10,
    span: Annotated[float, typer.Option(min=0.1, help="Seconds per span, each half over the one before.")] = 8.0,
    page: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("search.html"),
    keep: Keep = KEPT,
    threads: Threads = CORES,
) -> None:
    """Find the spans of your videos that a text describes. The first search embeds them, the next ones take what is kept.

    Example: tvts search "a dog runs on the beach" --videos holiday/ --model results/runs/demo/model
    """
    from tvts.config.errors import for_people
    from tvts.corpus.status import one_line
    from tvts.search.library import Library, find_videos
    from tvts.search.page import write_page
    from tvts.search.rank import rank

    found = find_videos(videos)
    with for_people():
        library = Library(model, span, keep, threads, "auto")
        hits, looked_at = rank(told(library.embed(found), len(found)), library.text(text), top)
    if not hits:
        raise UserError(f"{videos}: none of its {len(found)} videos could be read; the lines above say why")
    for number, hit in enumerate(hits, start=1):
        print(f"{number:3}  {hit.score:6.3f}  {hit.times:>17}  {one_line(str(hit.video))}")
    write_page(text, hits, f"{_count(looked_at, 'span')} of {span:g} s in {_count(len(found), 'video')}", page)
    print(f"page: {page.resolve()}")


@app.command()
def benchmarks(
    config: Annotated[list[Path], typer.Option(help="config.yaml, and files laid over it.")] = [Path("config.yaml")],  # noqa: B006
) -> None:
    """List the benchmarks with what was found of each on disk.

    Example: tvts benchmarks --config config.yaml --config mine.yaml
    """
    from rich.console import Console
    from rich.table import Column, Table

    from tvts.config import Experiment
    from tvts.evaluate.benchmarks import survey

    known = Experiment.load(*config).config.benchmarks
    found = Table("benchmark", "state", "items", "videos", Column("", overflow="fold"))
    for row in survey(known):
        how = f". To get it: {known[row['benchmark']].obtain}" if row["message"] else ""
        found.add_row(row["benchmark"], row["state"], str(row["items"]), str(row["videos"]), row["message"] + how)
    Console().print(found)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def watch(
    context: typer.Context,
    logs: Annotated[Path, typer.Option(help="Folder of the jobs' logs.")] = Path("results/logs"),
) -> None:
    """Run a workflow and show what its jobs are doing.

    Example: tvts watch snakemake --cores 2
    """
    from tvts.watch import watch as run_watched

    if not context.args:
        raise UserError("watch: give the command to run, for example: tvts watch snakemake --cores 2")
    raise typer.Exit(run_watched(context.args, logs))


def told(videos: "Iterator[Embedded]", total: int) -> "Iterator[Embedded]":
    """Say on stderr how far it is, and of each video that cannot be read, why."""
    from rich.console import Console
    from rich.progress import Progress

    from tvts.corpus.status import one_line

    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"embedding {total} videos", total=total)
        for number, video in enumerate(videos, start=1):
            name = one_line(str(video.path))
            if video.status != "ok":
                console.print(f"left out: {name}: {video.message} ({video.status})", markup=False, soft_wrap=True)
            elif not video.kept and not console.is_terminal:
                console.print(
                    f"{number}/{total} {name}: {_count(len(video.spans), 'span')}", markup=False, soft_wrap=True
                )
            progress.advance(task)
            yield video


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"
