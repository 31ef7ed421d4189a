"""What the command line does with errors a user can put right."""

from pathlib import Path

import pytest

from tvts import cli


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        with open("/dev/full", "w", encoding="utf-8") as file:
            file.write("x")

    monkeypatch.setattr(cli, "app", write)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "tvts: results: No space left on device; free space or move results, the same command continues"
    ]


def test_other_errors_of_the_system_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "app", (tmp_path / "missing").read_text)
    with pytest.raises(FileNotFoundError):
        cli.main()
