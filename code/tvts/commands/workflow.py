"""Commands around a run of Snakemake, and generated documentation."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def recover(context: typer.Context) -> None:
    """Go on after the main process died: cancel its SLURM jobs, unlock, run again: `tvts recover snakemake --profile slurm`.

    Example: tvts recover snakemake --profile slurm
    """
    from tvts.recover import recover as run_recovered

    run_recovered(Path.cwd(), context.args)


@app.command()
def explain(log: Annotated[Path, typer.Argument(help="A log of Snakemake: .snakemake/log/*.log")]) -> None:
    """Say what went wrong in a workflow, one line per failure. The workflow does this by itself at its end.

    Example: tvts explain .snakemake/log/2026-01-01T120000.log
    """
    from tvts.explain import explain as explain_log

    print(*explain_log(log), sep="\n")


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
