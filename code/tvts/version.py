"""Which code this is: the package's version, and the commit it was taken from."""

import json
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

HERE = Path(__file__).parent


def version() -> str:
    """`0.1.0 (commit 0123456789ab)`; a `+` after the commit: with changes that are not committed."""
    try:
        number = distribution("tvts").version
    except PackageNotFoundError:
        number = "not installed"
    return f"{number} (commit {commit() or 'unknown'})"


def commit() -> str | None:
    """Commit of the checkout this package lies in, else the one pip installed it from; None if neither is known."""
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name)
    if tracked is not None:
        return _git("describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*")
    try:
        origin = json.loads(distribution("tvts").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return None
    return origin.get("vcs_info", {}).get("commit_id", "")[:12] or None


def _git(*arguments: str) -> str | None:
    """What git says about this folder; None where there is no git, no checkout, or an error."""
    try:
        answer = subprocess.run(["git", "-C", str(HERE), *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
