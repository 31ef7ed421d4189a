"""What processes tell each other: two real ones."""

import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import free_ports

SLOW_LEADER = """
import sys, time
from pathlib import Path

from tests.waiting import free_ports
from tvts.train.distributed import agree, start
process, done = start(gpus=0), Path(sys.argv[1])
for flags in ((), (process.leads,), (False, not process.leads)):
    if process.leads:
        time.sleep(0.5)
        done.write_text("written")
    answers = agree(process, *flags)
    assert done.read_text() == "written", "the others waited"
    assert answers == {0: (), 1: (True,), 2: (False, True)}[len(flags)], answers
    agree(process)
    if process.leads:
        done.write_text("")
    agree(process)
"""


def test_everybody_waits_for_the_last_and_gets_the_same_answer(tmp_path: Path) -> None:
    port = str(free_ports(1)[0])
    (tmp_path / "done").write_text("")
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SLOW_LEADER, str(tmp_path / "done")],
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
