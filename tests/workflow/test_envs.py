"""The conda environment of a stage holds what the stage imports and asks for."""

from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ENVS = Path(__file__).parents[2] / "envs"


@pytest.mark.parametrize("package", ["ftfy", "yt-dlp", "yt-dlp-ejs"])
def test_downloads_find_their_tools(package: str) -> None:
    """`spans.place: words` reads YT-Temporal's texts; YouTube needs yt-dlp's scripts."""
    *_, pip = yaml.safe_load((ENVS / "corpus.yaml").read_text())["dependencies"]
    assert package in [Requirement(line).name for line in pip["pip"]]
