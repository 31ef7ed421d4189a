"""`tvts embed-benchmark`, `tvts score...`: frozen evaluations."""

from pathlib import Path
from typing import Annotated

import typer

from tvts.commands.options import Output, Reader, RunConfig, Running, Settings, Threads

app = typer.Typer()


@app.command()
def embed_benchmark(
    config: RunConfig,
    model: Annotated[Path, typer.Option(help="Model folder, or CLIP folder for baselines.")],
    settings: Settings,
    evaluation: Settings,
    output: Output,
    running: Running = "{}",
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
        read_settings(Evaluation, evaluation, running),
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
    running: Running = "{}",
    threads: Threads = 1,
) -> None:
    """Score embeddings under a protocol.

    Example: tvts score results/embeddings/demo/motions.safetensors --protocol retrieval --evaluation '{}' --output score.json
    """
    from tvts.config import Evaluation, read_settings
    from tvts.evaluate.score import score as score_embeddings

    score_embeddings(embeddings, protocol, read_settings(Evaluation, evaluation, running), output, threads)


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
    running: Running = "{}",
    reader: Reader = "pyav",
    threads: Threads = 1,
) -> None:
    """How far the text encoder has moved from its CLIP, on captions and on speech, and what that costs in retrieval.

    Example: tvts score-distortion results/runs/demo/config.json --model results/runs/demo/model --dataset narrated/card.json
    --embeddings results/embeddings/demo/motions.safetensors --settings @benchmark.json --evaluation '{}' --output distortion.json
    """
    from tvts.config import Benchmark, Evaluation, read_settings
    from tvts.evaluate.distortion import score_distortion as measure

    captions, how = read_settings(Benchmark, settings), read_settings(Evaluation, evaluation, running)
    measure(config, model, dataset, embeddings, captions, how, output, reader, threads)
