"""`tvts <stage>`: one thin command per stage, each with an example in its help.

Every rule of the workflow calls one; each works without Snakemake too."""

import errno
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tvts import everyday
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

bench = typer.Typer(help="Measure speed. Figures are of this machine, in this run.", no_args_is_help=True)
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
    """Check a list of videos and fix the shard of each.

    Example: tvts plan --settings @corpus.json --output plan.parquet
    """
    from tvts.config import Corpus, read_settings
    from tvts.corpus.plan import plan as make_plan

    make_plan(read_settings(Corpus, settings), output)


@app.command()
def download(
    plan: Annotated[Path, typer.Option(help="plan.parquet of the corpus.")],
    shard: Annotated[int, typer.Option(min=0, help="Shard number.")],
    settings: Settings,
    tar: Output,
    index: Output,
    threads: Threads = 1,
) -> None:
    """Fetch, cut, transcode and verify one shard of videos.

    Example: tvts download --plan plan.parquet --shard 0 --settings @corpus.json --tar 00000.tar --index 00000.parquet
    """
    from tvts.config import Corpus, read_settings
    from tvts.corpus.fetch import fetch_shard

    corpus = read_settings(Corpus, settings)
    fetch_shard(plan, shard, corpus.source, corpus.fetch, corpus.seed, tar, index, threads=threads)


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
    """Sum a dataset up: what was lost where, and the hash of all that went in.

    Example: tvts card --plan plan.parquet --clips clips/ --transcripts transcripts/ --shards datasets/mine/ --settings @dataset.json
    --output datasets/mine/card.json
    """
    from tvts.config import Dataset, read_settings
    from tvts.corpus.dataset import build_card

    build_card(
        shards=sorted(shards.glob("*.parquet")),
        indexes=sorted(clips.glob("*.parquet")),
        transcripts=sorted(transcripts.glob("*.parquet")) if transcripts else [],
        plan=plan,
        settings=read_settings(Dataset, settings),
        output=output,
    )


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


@bench.command("model")
def bench_model(
    size: Annotated[Literal["b32", "b16", "h14"], typer.Option(help="Model size.")] = "b32",
    batch: Annotated[int, typer.Option(min=1, help="Clips per step.")] = 4,
    frames: Annotated[int, typer.Option(min=1, help="Frames per clip.")] = 12,
    mask_ratio: Annotated[float | None, typer.Option(help="Hidden share of patches; none = the paper's.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[Literal["bf16", "fp32"], typer.Option(help="Arithmetic.")] = "fp32",
    compile_blocks: Annotated[bool, typer.Option("--compile", help="Compile each block.")] = False,
    seconds: Annotated[float, typer.Option(help="About how long to measure.")] = 20.0,
) -> None:
    """Forward + backward of the model beside the same layers with explicit softmax in fp32.

    Example: tvts bench model --size b16 --precision bf16 --compile
    """
    from tvts.bench.model import bench_model as measure
    from tvts.bench.model import print_bench
    from tvts.config.errors import for_people

    with for_people():
        print_bench(measure(size, batch, frames, mask_ratio, device, precision, compile_blocks, seconds))


@bench.command("train")
def bench_train(
    config: Annotated[Path | None, typer.Argument(help="A frozen run; without one, made batches of --size.")] = None,
    dataset: Annotated[list[Path], typer.Option(help="Card of each dataset of the run.")] = [],  # noqa: B006
    size: Annotated[Literal["b32", "b16", "h14"], typer.Option(help="Model size, for made batches.")] = "b32",
    batch: Annotated[int, typer.Option(min=1, help="Clips per step, for made batches.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Steps to measure, after three that do not count.")] = 20,
    precision: Annotated[Literal["bf16", "fp32"], typer.Option(help="Arithmetic, for made batches.")] = "bf16",
    compile_blocks: Annotated[bool, typer.Option("--compile", help="Compile each block, for made batches.")] = False,
    reader: Reader = "pyav",
) -> None:
    """Training steps: clips/s, share of data, forward, backward and optimiser, MFU, memory."""
    from tvts.bench import train
    from tvts.config.errors import for_people
    from tvts.evaluate.device import pick_device

    device = pick_device("auto")
    with for_people():
        if config:
            result = train.bench_run(config, dataset, reader, steps, device)
        else:
            result = train.bench_synthetic(size, batch, steps, precision, compile_blocks, device)
    train.print_bench(result)


@bench.command("loader")
def bench_loader(
    video: Annotated[Path | None, typer.Argument(help="An original file of at least 30 s; none = one is made.")] = None,
    windows: Annotated[int, typer.Option(min=2, help="Windows to read in each way.")] = 50,
) -> None:
    """Frames of a training window: our shards with both readers beside decord on the original file."""
    from tvts.bench import loader

    loader.print_bench(loader.bench_loader(video, windows))


@bench.command("retrieval")
def bench_retrieval(
    items: Annotated[int, typer.Option(min=2, help="Texts, and as many videos.")] = 10_000,
    width: Annotated[int, typer.Option(min=1, help="Width of the features.")] = 512,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Threads = 1,
) -> None:
    """Time and memory of retrieval scoring: both directions, raw and with dual softmax."""
    from tvts.bench.retrieval import bench_retrieval as measure

    found = measure(items, width, threads, device)
    typer.echo(f"{items} x {items}, width {width}: {found['seconds']:.1f} s, peak {found['peak_gib']:.2f} GiB")


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
    """How far the text encoder has moved from its CLIP, on captions and on speech, and what that costs in retrieval."""
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
    """Write the report's front page: what was run, on what data, what came out, how it compares, what is missing."""
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
    """Send a running training's metrics to an MLflow server, until standard input is closed. The trainer starts this by itself."""
    from tvts.config import read_settings
    from tvts.config.schema import Tracking
    from tvts.live import follow as follow_metrics

    follow_metrics(config, dataset, metrics, read_settings(Tracking, tracking))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def recover(context: typer.Context) -> None:
    """Go on after the main process died: cancel its SLURM jobs, unlock, run again: `tvts recover snakemake --profile slurm`."""
    from tvts.recover import recover as run_recovered

    sys.exit(run_recovered(Path.cwd(), context.args))


@app.command()
def explain(log: Annotated[Path, typer.Argument(help="A log of Snakemake: .snakemake/log/*.log")]) -> None:
    """Say what went wrong in a workflow, one line per failure. The workflow does this by itself at its end."""
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
