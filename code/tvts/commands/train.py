"""`tvts pretrain`, and models from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from tvts.commands.options import Output, Reader, RunConfig, Running, Threads

app = typer.Typer()


@app.command()
def pretrain(
    config: RunConfig,
    dataset: Annotated[list[Path], typer.Option(help="Card of each dataset, in the order of the run's data.datasets.")],
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and metrics.jsonl; kept between attempts.")],
    model: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    card: Output,
    running: Running = "{}",
    reader: Reader = "pyav",
    threads: Threads = 1,
    minutes: Annotated[float | None, typer.Option(help="Save and stop before this time is over.")] = None,
) -> None:
    """Pre-train a run, or continue it. Exits 75 when it was stopped and can be continued by the same command.

    Example: tvts pretrain results/runs/demo/config.json --dataset results/datasets/narrated/card.json --folder training
    --model model --card card.json
    """
    from tvts.train.stage import pretrain as train

    train(config, dataset, folder, model, card, reader, threads, minutes, running)


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
