"""What the command line does with errors a user can put right."""

import errno

import pytest

from tvts import cli


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def write(**_: object) -> None:
        with open("/dev/full", "w", encoding="utf-8") as file:
            file.write("x")

    monkeypatch.setattr(cli, "app", write)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "tvts: No space left on device; free some space, then run the same command again"
    ]


def test_other_errors_of_the_system_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(OSError, match="Input/output error"):
        cli.main()
