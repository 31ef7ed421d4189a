"""The program `tvts`: its commands put together, and how it ends: what the user can put right is told in one line, without a traceback."""

import errno
import sys
from typing import Annotated, Any

import typer

from tvts.commands import bench, corpus, evaluate, everyday, report, train, workflow
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

GROUPS = {
    "Every day": everyday.app,
    "Stages of the workflow: from videos to a dataset": corpus.app,
    "Stages of the workflow: training": train.app,
    "Stages of the workflow: frozen evaluations": evaluate.app,
    "Stages of the workflow: what came out": report.app,
    "Around the workflow": workflow.app,
}
for title, group in GROUPS.items():
    for command in group.registered_commands:
        command.rich_help_panel = title
    app.add_typer(group)
app.add_typer(bench.app, name="bench", rich_help_panel="Around the workflow")


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


def main() -> None:
    """Run a command. What the user can put right is printed as plain lines; exit status 2, or 75 for work to be continued."""
    try:
        status = app(prog_name="tvts", standalone_mode=False)
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
