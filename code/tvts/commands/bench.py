"""`tvts bench ...`: speed, measured. Figures are of this machine, in this run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tvts.commands.options import Reader, Running, Threads

app = typer.Typer(help="Measure speed. Figures are of this machine, in this run.", no_args_is_help=True)


@app.command("model")
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


@app.command("train")
def bench_train(
    config: Annotated[Path | None, typer.Argument(help="A frozen run; without one, made batches of --size.")] = None,
    dataset: Annotated[list[Path], typer.Option(help="Card of each dataset of the run.")] = [],  # noqa: B006
    size: Annotated[Literal["b32", "b16", "h14"], typer.Option(help="Model size, for made batches.")] = "b32",
    batch: Annotated[int, typer.Option(min=1, help="Clips per step, for made batches.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Steps to measure, after three that do not count.")] = 20,
    precision: Annotated[Literal["bf16", "fp32"], typer.Option(help="Arithmetic, for made batches.")] = "bf16",
    compile_blocks: Annotated[bool, typer.Option("--compile", help="Compile each block, for made batches.")] = False,
    running: Running = "{}",
    reader: Reader = "pyav",
) -> None:
    """Training steps: clips/s, share of data, forward, backward and optimiser, MFU, memory.

    Example: tvts bench train results/runs/demo/config.json --dataset results/datasets/narrated/card.json
    """
    from tvts.bench import train
    from tvts.config.errors import for_people
    from tvts.evaluate.device import pick_device

    device = pick_device("auto")
    with for_people():
        if config:
            result = train.bench_run(config, dataset, reader, steps, device, running)
        else:
            result = train.bench_synthetic(size, batch, steps, precision, compile_blocks, device)
    train.print_bench(result)


@app.command("loader")
def bench_loader(
    video: Annotated[Path | None, typer.Argument(help="An original file of at least 30 s; none = one is made.")] = None,
    windows: Annotated[int, typer.Option(min=2, help="Windows to read in each way.")] = 50,
) -> None:
    """Frames of a training window: our shards with both readers beside decord on the original file.

    Example: tvts bench loader --windows 50
    """
    from tvts.bench import loader

    loader.print_bench(loader.bench_loader(video, windows))


@app.command("retrieval")
def bench_retrieval(
    items: Annotated[int, typer.Option(min=2, help="Texts, and as many videos.")] = 10_000,
    width: Annotated[int, typer.Option(min=1, help="Width of the features.")] = 512,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Threads = 1,
) -> None:
    """Time and memory of retrieval scoring: both directions, raw and with dual softmax.

    Example: tvts bench retrieval --items 100000 --threads 2
    """
    from tvts.bench.retrieval import bench_retrieval as measure

    found = measure(items, width, threads, device)
    typer.echo(f"{items} x {items}, width {width}: {found['seconds']:.1f} s, peak {found['peak_gib']:.2f} GiB")


@app.command("corpus")
def bench_corpus(
    videos: Annotated[list[Path] | None, typer.Argument(help="Videos to cut; none = a synthetic one.")] = None,
    fetch: Annotated[str, typer.Option(help="Section `fetch` of a corpus as JSON, or @file.")] = "{}",
    transcribe: Annotated[
        str, typer.Option(help="Section `transcribe` of a corpus as JSON, or @file.")
    ] = '{"engine": "pocketsphinx"}',
    seconds: Annotated[float, typer.Option(help="About how long to cut.")] = 20.0,
    threads: Threads = 1,
) -> None:
    """Core-seconds per clip for cutting and for speech recognition, and bytes per clip.

    Example: tvts bench corpus --seconds 20
    """
    from tvts.bench.corpus import bench_corpus as measure
    from tvts.bench.corpus import print_bench
    from tvts.config import Fetch, Transcribe, read_settings

    print_bench(
        measure(videos or [], read_settings(Fetch, fetch), read_settings(Transcribe, transcribe), seconds, threads)
    )
