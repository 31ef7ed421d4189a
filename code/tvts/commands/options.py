"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Settings = Annotated[str, typer.Option(help="Section of config.yaml as JSON, or @file.")]
Running = Annotated[
    str,
    typer.Option(help="Settings that change no result (workers, minutes, device, ...) as JSON, laid over the others."),
]
Output = Annotated[Path, typer.Option(help="File to write.")]
Reader = Annotated[Literal["pyav", "decord"], typer.Option(help="Video reader.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU cores to use.")]
RunConfig = Annotated[Path, typer.Argument(help="results/runs/RUN/config.json")]
ReportConfig = Annotated[Path, typer.Option(help="results/report/config.json")]
Results = Annotated[Path, typer.Option(help="Results folder.")]
