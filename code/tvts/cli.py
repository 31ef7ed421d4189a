"""`tvts <stage>`: one thin command per stage. Every rule of the workflow calls one; each works without Snakemake too."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tvts.config import UserError

app = typer.Typer(
    name="tvts",
    help="TVTSv2: from a list of narrated videos to a frozen video-text encoder.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

bench = typer.Typer(help="Measure speed. Figures are of this machine, in this run.", no_args_is_help=True)
app.add_typer(bench, name="bench")

Settings = Annotated[str, typer.Option(help="Section of config.yaml as JSON, or @file.")]
Output = Annotated[Path, typer.Option(help="File to write.")]
Reader = Annotated[Literal["pyav", "decord"], typer.Option(help="Video reader.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU cores to use.")]
RunConfig = Annotated[Path, typer.Argument(help="results/runs/RUN/config.json")]


@app.command()
def plan(settings: Settings, output: Output) -> None:
    """Check a list of videos, and the tools to fetch them with, and fix the shard of each video."""
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
    threads: Threads = 1,
    videos_per_hour: Annotated[int, typer.Option(min=1, help="YouTube: over all jobs of all corpora.")] = 300,
) -> None:
    """Fetch, cut, transcode and verify one shard of videos."""
    from tvts.config import Corpus, read_settings
    from tvts.corpus.fetch import fetch_shard
    from tvts.corpus.transcribe import make_reader

    corpus = read_settings(Corpus, settings)
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
    """Have the next run of the workflow try again what failed for reasons that may have passed; all else is kept."""
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
    """Index YT-Temporal's annotations by video, once, so that no shard searches through them."""
    from tvts.corpus.transcribe.yt_temporal import index_annotations

    index_annotations(folder, output)


@app.command()
def transcribe(
    tar: Annotated[Path, typer.Option(help="Clips of the shard.")],
    index: Annotated[Path, typer.Option(help="Their index.")],
    settings: Settings,
    output: Output,
    threads: Threads = 1,
) -> None:
    """Turn the speech of one shard into words with times."""
    from tvts.config import Transcribe, read_settings
    from tvts.corpus.transcribe import transcribe_shard

    transcribe_shard(tar, index, read_settings(Transcribe, settings), output, threads)


@app.command()
def dataset(
    index: Annotated[Path, typer.Option(help="Index of the shard's clips.")],
    settings: Settings,
    output: Output,
    transcripts: Annotated[Path | None, typer.Option(help="Its transcripts; none for captions.")] = None,
) -> None:
    """Clean the transcripts of one shard and find its usable windows."""
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
    """Sum a dataset up: what was lost where, what it cost, and the hash of all that went in."""
    from tvts.config import Dataset, read_settings
    from tvts.corpus.dataset import build_card, build_cost

    build_card(plan, clips, shards, read_settings(Dataset, settings), output)
    build_cost(plan, clips, transcripts, output.with_name("cost.json"))


@app.command()
def pretrain(
    config: RunConfig,
    dataset: Annotated[list[Path], typer.Option(help="Card of each dataset, in the order of the run's data.datasets.")],
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and metrics.jsonl; kept between attempts.")],
    model: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    card: Output,
    reader: Reader = "pyav",
    threads: Threads = 1,
    minutes: Annotated[float | None, typer.Option(help="Save and stop before this time is over.")] = None,
) -> None:
    """Pre-train a run, or continue it. Exits 75 when it was stopped and can be continued by the same command."""
    from tvts.train.stage import pretrain as train

    train(config, dataset, folder, model, card, reader, threads, minutes)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A released TVTSv2 checkpoint.")],
    clip: Annotated[Path, typer.Option(help="CLIP folder of the same size: heads, style and tokenizer come from it.")],
    output: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    mask_ratio: Annotated[
        float, typer.Option(help="Share of patches it was trained without; kept in its config.")
    ] = 0.0,
) -> None:
    """Turn a released checkpoint of the official code into a model folder."""
    from tvts.config.errors import for_people
    from tvts.model.convert import convert_checkpoint

    with for_people():
        convert_checkpoint(checkpoint, output, clip, mask_ratio=mask_ratio)


@bench.command("model")
def bench_model(
    size: Annotated[Literal["b32", "b16", "h14"], typer.Option(help="Model size.")] = "b32",
    batch: Annotated[int, typer.Option(min=1, help="Clips per step.")] = 4,
    frames: Annotated[int, typer.Option(min=1, help="Frames per clip.")] = 12,
    mask_ratio: Annotated[float | None, typer.Option(help="Hidden share of patches; none = the paper's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    precision: Annotated[Literal["bf16", "fp32"], typer.Option(help="Arithmetic.")] = "fp32",
    compile_blocks: Annotated[bool, typer.Option("--compile", help="Compile each block.")] = False,
    seconds: Annotated[float, typer.Option(help="About how long to measure.")] = 20.0,
) -> None:
    """Forward + backward of the model beside the same layers with explicit softmax in fp32."""
    from tvts.bench.model import bench_model as measure
    from tvts.bench.model import print_bench
    from tvts.config.errors import for_people

    with for_people():
        print_bench(measure(size, batch, frames, mask_ratio, device, precision, compile_blocks, seconds))


@bench.command("corpus")
def bench_corpus(
    videos: Annotated[list[Path] | None, typer.Argument(help="Videos to cut; none = a synthetic one.")] = None,
    fetch: Annotated[str, typer.Option(help="Section `fetch` of a corpus as JSON, or @file.")] = "{}",
    transcribe: Annotated[
        str, typer.Option(help="Section `transcribe` of a corpus as JSON, or @file.")
    ] = '{"engine": "pocketsphinx"}',
    seconds: Annotated[float, typer.Option(help="About how long to cut.")] = 20.0,
    threads: Threads = 1,
) -> None:
    """Core-seconds per clip for cutting and for speech recognition, and bytes per clip."""
    from tvts.bench.corpus import bench_corpus as measure
    from tvts.bench.corpus import print_bench
    from tvts.config import Fetch, Transcribe, read_settings

    print_bench(
        measure(videos or [], read_settings(Fetch, fetch), read_settings(Transcribe, transcribe), seconds, threads)
    )


@app.command()
def embed_benchmark(
    config: RunConfig,
    model: Annotated[Path, typer.Option(help="Model folder, or CLIP folder for baselines.")],
    settings: Settings,
    evaluation: Settings,
    output: Output,
    reader: Reader = "pyav",
    threads: Threads = 1,
) -> None:
    """Embed the videos and texts of a benchmark with a frozen encoder."""
    from tvts.config import Benchmark, Evaluation, read_settings
    from tvts.config.resolve import read_run
    from tvts.evaluate.embed import embed

    run = read_run(config)
    embed(
        model,
        "clip" if run.kind == "clip" else "tvts",
        read_settings(Benchmark, settings),
        read_settings(Evaluation, evaluation),
        frames=run.model.frames,
        reader=reader,
        output=output,
        threads=threads,
    )


@app.command()
def score(
    embeddings: Annotated[Path, typer.Argument(help="results/embeddings/RUN/BENCHMARK.safetensors")],
    protocol: Annotated[str, typer.Option(help="retrieval, recognition, linear_probe or multiple_choice")],
    evaluation: Settings,
    output: Output,
    threads: Threads = 1,
) -> None:
    """Score embeddings under a protocol."""
    from tvts.config import Evaluation, read_settings
    from tvts.evaluate.score import score as score_embeddings

    score_embeddings(embeddings, protocol, read_settings(Evaluation, evaluation), output)


@app.command()
def score_sorting(
    config: RunConfig,
    model: Annotated[Path, typer.Option(help="Model folder.")],
    dataset: Annotated[Path, typer.Option(help="Card of the dataset whose held-out windows are sorted.")],
    output: Output,
    reader: Reader = "pyav",
    threads: Threads = 1,
) -> None:
    """Put the shuffled transcripts of held-out windows in order."""
    from tvts.evaluate.sorting import score_sorting as sort_windows

    sort_windows(config, model, dataset, output, reader, threads)


@app.command()
def benchmarks(
    config: Annotated[list[Path], typer.Option(help="config.yaml, and files laid over it.")] = [Path("config.yaml")],  # noqa: B006
) -> None:
    """List the benchmarks with what was found of each on disk."""
    from rich.console import Console
    from rich.table import Table

    from tvts.config import Experiment
    from tvts.evaluate.benchmarks import survey

    found = Table("benchmark", "state", "items", "videos", "")
    for row in survey(Experiment.load(*config).config.benchmarks):
        found.add_row(row["benchmark"], row["state"], str(row["items"]), str(row["videos"]), row["message"])
    Console().print(found)


@app.command()
def tables(
    config: Annotated[Path, typer.Option(help="results/report/config.json")],
    output: Annotated[Path, typer.Option(help="Folder to write the tables to.")],
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
) -> None:
    """Write the result tables from finished scores: ours beside the paper's."""
    from tvts.config import Experiment
    from tvts.report.tables import write_tables

    write_tables(Experiment.load(config), results, output)


@app.command()
def figure(
    kind: Annotated[Literal["ablation", "training", "funnel", "window"], typer.Argument(help="What to draw.")],
    name: Annotated[str, typer.Argument(help="Ablation or dataset.")],
    config: Annotated[Path, typer.Option(help="results/report/config.json")],
    output: Annotated[Path, typer.Option(help="PNG to write; a PDF is written beside it.")],
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
) -> None:
    """Draw a figure from finished results."""
    from tvts.config import Experiment
    from tvts.report import figures

    figures.draw(kind, name, Experiment.load(config), results, output)


@app.command()
def track(
    config: Annotated[Path, typer.Option(help="results/report/config.json, or config.yaml")],
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
    output: Annotated[Path | None, typer.Option(help="JSON to write with what the store holds.")] = None,
) -> None:
    """Import trainings, scores and figures into MLflow. Repeating it adds nothing twice."""
    from tvts.config import Experiment
    from tvts.files import write_json
    from tvts.tracking import track as import_results

    held = import_results(Experiment.load(config), results)
    if output:
        write_json(output, held)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def watch(
    context: typer.Context,
    logs: Annotated[Path, typer.Option(help="Folder of the jobs' logs.")] = Path("results/logs"),
) -> None:
    """Run a workflow and show what its jobs are doing: `tvts watch snakemake --cores 2`."""
    from tvts.watch import watch as run_watched

    sys.exit(run_watched(context.args, logs))


@app.command()
def docs(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when a generated file is out of date.")
    ] = False,
) -> None:
    """Generate the config reference (docs/config.md) and the JSON schema."""
    from tvts.config.reference import write_reference

    write_reference(Path(), check)


def main() -> None:
    """Run a command. What the user can put right is printed as plain lines; exit status 2, or 75 for work to be continued."""
    try:
        app()
    except UserError as error:
        print(f"tvts: {error}", file=sys.stderr)
        sys.exit(getattr(error, "status", 2))
    except KeyboardInterrupt:
        print("tvts: interrupted; finished work is kept, the same command continues", file=sys.stderr)
        sys.exit(130)
