from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import Process, wait_until
from tests.services.fixtures import StartProcess
from tests.services.traces import alive


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def test_output_of_both_streams_is_kept(process: StartProcess) -> None:
    started = process("talker", shell("echo out; echo err >&2; exit 3"))
    assert started.wait() == 3
    assert started.output == "out\nerr\n"


def test_expecting_text_ends_as_soon_as_it_is_there(process: StartProcess) -> None:
    started = process("server", shell("echo ready; exec sleep 600"))
    started.expect("ready")
    assert started.running


def test_expecting_text_fails_at_once_when_the_process_ends_without_it(process: StartProcess) -> None:
    started = process("server", shell("echo no room >&2; exit 7"))
    with pytest.raises(AssertionError, match=r"(?s)ended with 7 and never said 'ready'.*no room"):
        started.expect("ready", timeout=60)


def test_the_environment_is_the_one_given(process: StartProcess) -> None:
    started = process("env", ["/usr/bin/env"], env={"ONLY": "this"})
    started.wait()
    assert started.output == "ONLY=this\n"


def test_stopping_lets_the_process_tidy_up(process: StartProcess) -> None:
    started = process("tidy", shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"))
    started.expect("up")
    assert started.stop() == 0
    assert "bye" in started.output


def test_a_process_that_will_not_stop_is_killed_with_its_children(process: StartProcess) -> None:
    started = process("stubborn", shell("trap '' TERM; sleep 600 & echo child $!; wait; wait"))
    child = int(started.expect("child ").split()[1])
    assert started.stop(seconds=0.3) == -signal.SIGKILL
    wait_until(lambda: not alive(child), what="the child to be gone")


def test_nothing_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from tests.services import Process\n"
        "p = Process('orphan', ['/bin/sh', '-c', 'sleep 600 & echo child $!; wait'], pathlib.Path(sys.argv[1]))\n"
        "print(p.expect('child ').split()[1], p.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    with run.stdout as output:
        pids = [int(word) for word in output.readline().split()]
        assert all(alive(pid) for pid in pids)
        run.kill()
        run.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), what="both processes to be gone")


def test_a_process_is_shown_with_its_state(tmp_path: Path) -> None:
    started = Process("short", shell("exit 0"), tmp_path / "log")
    started.wait()
    started.kill()
    assert repr(started) == f"<short: pid {started.pid}, ended 0>"
