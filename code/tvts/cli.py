"""`tvts <stage>`: one thin command per stage, each with an example in its help.

Every rule of the workflow calls one; each works without Snakemake too."""

import errno
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tvts import everyday
from tvts.bench.commands import app as bench
from tvts.config import UserError

REMEDIES = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "give a file",
    errno.EACCES: "check who may read and write there",
    errno.EROFS: "write somewhere else",
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "free some space, then run the same command again",
}
"""What to do about errors of the file system, which can meet any command. Others are told with their traceback."""
INTERRUPTED = 130
"""Exit status after Ctrl-C."""
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # of the click that typer brings along

app = typer.Typer(
    name="tvts",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

app.add_typer(bench, name="bench")
app.add_typer(everyday.app)

Settings = Annotated[str, typer.Option(help="Section of config.yaml as JSON, or @file.")]
Output = Annotated[Path, typer.Option(help="File to write.")]
Reader = Annotated[Literal["pyav", "decord"], typer.Option(help="Video reader.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU cores to use.")]
RunConfig = Annotated[Path, typer.Argument(help="results/runs/RUN/config.json")]


def _tell_version(wanted: bool) -> None:
    from tvts.version import version

    if wanted:
        print(f"tvts {version()}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show version and commit.")
    ] = False,
) -> None:
    """From a list of narrated videos to a frozen video-text encoder: TVTSv2 (arXiv 2305.14173), stage by stage.

    Example: tvts doctor
    """


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
    threads: Threads = 1,
    videos_per_hour: Annotated[int, typer.Option(min=1, help="YouTube: over all jobs of all corpora.")] = 300,
) -> None:
    """Fetch, cut, transcode and verify one shard of videos.

    Example: tvts download --plan plan.parquet --shard 0 --settings @corpus.json --tar 00000.tar --index 00000.parquet
    """
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
    threads: Threads = 1,
) -> None:
    """Turn the speech of one shard into words with times.

    Example: tvts transcribe --tar 00000.tar --index 00000.parquet --settings '{"engine": "pocketsphinx"}' --output words.parquet
    """
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
    """Pre-train a run, or continue it. Exits 75 when it was stopped and can be continued by the same command.

    Example: tvts pretrain results/runs/demo/config.json --dataset results/datasets/narrated/card.json --folder training
    --model model --card card.json
    """
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
    """Turn a released checkpoint of the official code into a model folder.

    Example: tvts convert TVTSv2_B_16.pth --clip data/clip/openai-clip-vit-base-patch16 --mask-ratio 0.5 --output model
    """
    from tvts.config.errors import for_people
    from tvts.model.convert import convert_checkpoint

    with for_people():
        convert_checkpoint(checkpoint, output, clip, mask_ratio=mask_ratio)


@app.command()
def embed_benchmark(
    config: RunConfig,
    model: Annotated[Path, typer.Option(help="Model folder, or CLIP folder for baselines.")],
    settings: Settings,
    evaluation: Settings,
    output: Output,
    reader: Reader = "pyav",
    cache: Annotated[
        Path | None, typer.Option(help="Folder of finished batches; none = .cache beside the output.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the videos, on a GPU each.")] = 1,
    threads: Threads = 1,
) -> None:
    """Embed the videos and texts of a benchmark with a frozen encoder.

    Example: tvts embed-benchmark results/runs/demo/config.json --model results/runs/demo/model --settings @benchmark.json
    --evaluation '{}' --output features.safetensors
    """
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
        cache=cache,
        processes=processes,
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
    """Score embeddings under a protocol.

    Example: tvts score results/embeddings/demo/motions.safetensors --protocol retrieval --evaluation '{}' --output score.json
    """
    from tvts.config import Evaluation, read_settings
    from tvts.evaluate.score import score as score_embeddings

    score_embeddings(embeddings, protocol, read_settings(Evaluation, evaluation), output, threads)


@app.command()
def score_sorting(
    config: RunConfig,
    model: Annotated[Path, typer.Option(help="Model folder.")],
    dataset: Annotated[Path, typer.Option(help="Card of the dataset whose held-out windows are sorted.")],
    output: Output,
    reader: Reader = "pyav",
    threads: Threads = 1,
) -> None:
    """Put the shuffled transcripts of held-out windows in order.

    Example: tvts score-sorting results/runs/demo/config.json --model results/runs/demo/model
    --dataset results/datasets/narrated/card.json --output sorting.json
    """
    from tvts.evaluate.sorting import score_sorting as sort_windows

    sort_windows(config, model, dataset, output, reader, threads)


@app.command()
def score_distortion(
    config: RunConfig,
    model: Annotated[Path, typer.Option(help="Model folder, or CLIP folder for baselines.")],
    dataset: Annotated[
        Path, typer.Option(help="Card of the dataset whose held-out transcripts are the spoken register.")
    ],
    embeddings: Annotated[Path, typer.Option(help="The run's features of the benchmark with captions.")],
    settings: Settings,
    evaluation: Settings,
    output: Output,
    reader: Reader = "pyav",
    threads: Threads = 1,
) -> None:
    """How far the text encoder has moved from its CLIP, on captions and on speech, and what that costs in retrieval.

    Example: tvts score-distortion results/runs/demo/config.json --model results/runs/demo/model --dataset narrated/card.json
    --embeddings results/embeddings/demo/motions.safetensors --settings @benchmark.json --evaluation '{}' --output distortion.json
    """
    from tvts.config import Benchmark, Evaluation, read_settings
    from tvts.evaluate.distortion import score_distortion as measure

    captions, how = read_settings(Benchmark, settings), read_settings(Evaluation, evaluation)
    measure(config, model, dataset, embeddings, captions, how, output, reader, threads)


@app.command(rich_help_panel=everyday.PANEL)
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


@app.command()
def tables(
    config: Annotated[Path, typer.Option(help="results/report/config.json")],
    output: Annotated[Path, typer.Option(help="Folder to write the tables to.")],
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
) -> None:
    """Write the result tables from finished scores: ours beside the paper's.

    Example: tvts tables --config results/report/config.json --output tables/
    """
    from tvts.config import Experiment
    from tvts.report.tables import write_tables

    write_tables(Experiment.load(config), results, output)


@app.command()
def page(
    config: Annotated[Path, typer.Option(help="results/report/config.json")],
    output: Annotated[Path, typer.Option(help="HTML to write; beside it an .rst for Snakemake's report.")],
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
) -> None:
    """Write the report's front page: what was run, on what data, what came out, how it compares, what is missing.

    Example: tvts page --config results/report/config.json --output results/report/index.html
    """
    from tvts.config import Experiment
    from tvts.report.page import write_page

    write_page(Experiment.load(config), results, output)


@app.command()
def figure(
    kind: Annotated[
        Literal["ablation", "distortion", "training", "funnel", "window"], typer.Argument(help="What to draw.")
    ],
    name: Annotated[str, typer.Argument(help="Ablation or dataset.")],
    config: Annotated[Path, typer.Option(help="results/report/config.json")],
    output: Annotated[Path, typer.Option(help="PNG to write; a PDF is written beside it.")],
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
) -> None:
    """Draw a figure from finished results.

    Example: tvts figure ablation freeze_depth --config results/report/config.json --output figure.png
    """
    from tvts.config import Experiment
    from tvts.report import figures

    figures.draw(kind, name, Experiment.load(config), results, output)


@app.command()
def model_card(
    run: Annotated[str, typer.Argument(help="Name of a run.")],
    config: Annotated[Path, typer.Option(help="results/report/config.json")],
    output: Output,
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
) -> None:
    """Write a finished run's model card: README.md in its model folder, ready for a model hub, and the same text to a file.

    Example: tvts model-card demo --config results/report/config.json --output card.md
    """
    from tvts.config import Experiment
    from tvts.report.model_card import write_model_card

    write_model_card(Experiment.load(config), run, results, output)


@app.command()
def results_page(
    config: Annotated[Path, typer.Option(help="results/report/config.json")],
    tracked: Annotated[Path, typer.Option(help="What `tvts track --output` wrote.")],
    output: Output,
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
) -> None:
    """Write the results as a page in which each number leads to its run in MLflow.

    Example: tvts results-page --config results/report/config.json --tracked results/mlflow.json --output results.html
    """
    from tvts.config import Experiment
    from tvts.report.linked import write_linked

    write_linked(Experiment.load(config), results, tracked, output)


@app.command()
def track(
    config: Annotated[Path, typer.Option(help="results/report/config.json, or config.yaml")],
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
    output: Annotated[Path | None, typer.Option(help="JSON to write with what the store holds.")] = None,
) -> None:
    """Import trainings, scores and figures into MLflow. Repeating it adds nothing twice.

    Example: tvts track --config results/report/config.json
    """
    from tvts.config import Experiment
    from tvts.files import write_json
    from tvts.report.linked import runs_address
    from tvts.tracking import track as import_results

    held = import_results(Experiment.load(config), results)
    print(f"{held['runs']} runs; with `make mlflow`: {runs_address(held)}")
    if output:
        write_json(output, held)


@app.command()
def follow(
    config: RunConfig,
    dataset: Annotated[list[Path], typer.Option(help="Card of each dataset.")],
    metrics: Annotated[Path, typer.Option(help="metrics.jsonl of the training.")],
    tracking: Settings,
) -> None:
    """Send a running training's metrics to an MLflow server, until standard input is closed. The trainer starts this by itself.

    Example: tvts follow results/runs/demo/config.json --dataset card.json --metrics results/runs/demo/training/metrics.jsonl
    --tracking '{"uri": "http://10.0.0.1:5000"}'
    """
    from tvts.config import read_settings
    from tvts.config.schema import Tracking
    from tvts.live import follow as follow_metrics

    follow_metrics(config, dataset, metrics, read_settings(Tracking, tracking))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def recover(context: typer.Context) -> None:
    """Go on after the main process died: cancel its SLURM jobs, unlock, run again: `tvts recover snakemake --profile slurm`.

    Example: tvts recover snakemake --profile slurm
    """
    from tvts.recover import recover as run_recovered

    sys.exit(run_recovered(Path.cwd(), context.args))


@app.command()
def explain(log: Annotated[Path, typer.Argument(help="A log of Snakemake: .snakemake/log/*.log")]) -> None:
    """Say what went wrong in a workflow, one line per failure. The workflow does this by itself at its end.

    Example: tvts explain .snakemake/log/2026-01-01T120000.log
    """
    from tvts.explain import explain as explain_log

    print(*explain_log(log), sep="\n")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, rich_help_panel=everyday.PANEL
)
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


@app.command()
def docs(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when a generated file is out of date.")
    ] = False,
) -> None:
    """Generate the config reference (docs/config.md) and the JSON schema.

    Example: tvts docs --check
    """
    from tvts.config.reference import write_reference

    write_reference(Path(), check)


def main() -> None:
    """Run a command. What the user can put right is printed as plain lines; exit status 2, or 75 for work to be continued."""
    try:
        status = app(standalone_mode=False)
    except UserError as error:
        print(f"tvts: {error}", file=sys.stderr)
        status = getattr(error, "status", 2)
    except UsageError as error:
        status = _tell_usage(error)
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"tvts: {where}{error.strerror}; {REMEDIES[error.errno]}", file=sys.stderr)
        status = 2
    if status == INTERRUPTED:  # typer turns Ctrl-C into this status
        print("tvts: interrupted; finished work is kept, the same command continues", file=sys.stderr)
    sys.exit(status)


def _tell_usage(error: Any) -> int:
    """One line for a command line that cannot be read; the whole help for one without a command."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    if message:  # none: without a command, the help is all there is to say
        place = error.ctx.command_path if error.ctx else "tvts"
        print(f"{place}: {message}; see: {place} --help", file=sys.stderr)
    return 2
