from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from koan_django.core.retry import RetryPolicy
from koan_django.core.supervisor import Exit, Program, Supervisor, SupervisorError
from tests.services import wait_until
from tests.services.fixtures import StartProcess
from tests.services.traces import alive

ROOT = Path(__file__).parents[2]
PROMPT = RetryPolicy(first_delay=timedelta(milliseconds=50), max_delay=timedelta(milliseconds=400), jitter=0)
FOREVER = "exec sleep 600"

Supervise = Callable[..., Supervisor]


def shell(name: str, script: str, **options: object) -> Program:
    return Program(name, ["/bin/sh", "-c", script], **options)  # type: ignore[arg-type]


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervise(output: io.StringIO) -> Iterator[Supervise]:
    made: list[Supervisor] = []

    def make(*programs: Program, **options: object) -> Supervisor:
        options = {"output": output, "restarts": PROMPT, "grace": 5, **options}
        made.append(Supervisor(programs, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.stop()


def pid_of(supervisor: Supervisor, name: str, other_than: int = 0) -> int:
    """Wait until ``name`` runs in a process other than ``other_than``."""

    def current() -> int | None:
        pid = supervisor.pid(name)
        return pid if pid != other_than else None

    found = wait_until(current, what=f"{name} to run")
    assert found is not None
    return found


def test_each_line_names_its_program(supervise: Supervise, output: io.StringIO) -> None:
    supervise(shell("web", "echo one; echo two >&2", restart=False), shell("beat", "printf three", restart=False)).run()
    lines = output.getvalue().splitlines()
    assert [line for line in lines if line.startswith("web ")] == ["web        | one", "web        | two"]
    assert "beat       | three" in lines


def test_a_terminal_gets_colours_and_a_pipe_none() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, coloured in ((Terminal(), True), (io.StringIO(), False)):
        Supervisor([shell("web", "echo hello", restart=False)], output=stream).run()
        assert ("\x1b[" in stream.getvalue()) is coloured


def test_a_program_gets_its_own_environment_and_folder(
    supervise: Supervise, output: io.StringIO, tmp_path: Path
) -> None:
    supervise(shell("web", 'echo "$GREETING in $(pwd -P)"', env={"GREETING": "hi"}, cwd=tmp_path, restart=False)).run()
    assert f"hi in {tmp_path.resolve()}" in output.getvalue()


def test_a_killed_program_runs_again_and_its_end_is_recorded(supervise: Supervise, output: io.StringIO) -> None:
    told: list[Exit] = []
    supervisor = supervise(shell("worker", FOREVER), on_exit=told.append)
    supervisor.start()
    first = pid_of(supervisor, "worker")
    os.kill(first, signal.SIGKILL)
    second = pid_of(supervisor, "worker", other_than=first)
    assert alive(second)
    assert told == supervisor.exits
    (ended,) = told
    assert (ended.name, ended.pid, ended.code, ended.signal, ended.asked) == ("worker", first, None, "SIGKILL", False)
    assert f"worker (pid {first}) was ended by SIGKILL" in output.getvalue()


def test_a_crash_takes_what_the_program_had_started(supervise: Supervise, output: io.StringIO) -> None:
    supervisor = supervise(shell("worker", "sleep 600 & echo child $!; wait"))
    supervisor.start()
    wait_until(lambda: "child " in output.getvalue(), what="the child")
    child = int(output.getvalue().split("child ")[1].split()[0])
    first = pid_of(supervisor, "worker")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not alive(child), what="the child to be gone")
    pid_of(supervisor, "worker", other_than=first)


def test_restarts_come_later_each_time(supervise: Supervise) -> None:
    supervisor = supervise(shell("broken", "exit 3"))
    supervisor.start()
    wait_until(lambda: len(supervisor.exits) >= 4, what="four ends")
    ends = [ended.at for ended in supervisor.exits[:4]]
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(ends)]
    assert [ended.code for ended in supervisor.exits[:4]] == [3, 3, 3, 3]
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True))


def test_a_failing_hook_ends_nothing(supervise: Supervise, output: io.StringIO) -> None:
    def hook(ended: Exit) -> None:
        raise LookupError("no such row")

    supervisor = supervise(shell("worker", FOREVER), on_exit=hook)
    supervisor.start()
    first = pid_of(supervisor, "worker")
    os.kill(first, signal.SIGKILL)
    pid_of(supervisor, "worker", other_than=first)
    assert "on_exit failed: LookupError: no such row" in output.getvalue()


def test_stopping_lets_programs_tidy_up_and_starts_none_again(supervise: Supervise, output: io.StringIO) -> None:
    tidy = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    supervisor = supervise(shell("one", tidy), shell("two", tidy))
    supervisor.start()
    wait_until(lambda: output.getvalue().count("up\n") == 2, what="both to be up")
    supervisor.stop()
    assert output.getvalue().count("bye\n") == 2
    assert [(ended.code, ended.asked) for ended in supervisor.exits] == [(0, True), (0, True)]
    assert supervisor.pid("one") is None


def test_a_program_ends_its_own_processes_in_its_own_order(supervise: Supervise, output: io.StringIO) -> None:
    """As a worker does, that lets its pool finish the work in hand."""
    pool = "trap 'echo interrupted' TERM; echo working; sleep 0.6; echo done"
    supervisor = supervise(shell("worker", f"trap 'echo waiting' TERM; ({pool}) & wait $!; wait $!; exit 0"))
    supervisor.start()
    wait_until(lambda: "working" in output.getvalue(), what="the pool to work")
    supervisor.stop()
    said = [line.split("| ")[1] for line in output.getvalue().splitlines() if line.startswith("worker ")]
    assert said == ["working", "waiting", "done"]


def test_what_a_program_leaves_behind_is_asked_to_end(supervise: Supervise, output: io.StringIO) -> None:
    rest = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    supervisor = supervise(shell("careless", f"({rest}) & trap 'exit 0' TERM; wait"))
    supervisor.start()
    wait_until(lambda: "up" in output.getvalue(), what="the rest to be up")
    supervisor.stop()
    assert "bye" in output.getvalue()


def test_a_program_that_will_not_stop_is_killed(supervise: Supervise, output: io.StringIO) -> None:
    supervisor = supervise(shell("stubborn", "trap '' TERM; echo up; while :; do sleep 0.02; done"), grace=0.3)
    supervisor.start()
    wait_until(lambda: "up" in output.getvalue(), what="the program to be up")
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 4
    assert supervisor.exits[0].signal == "SIGKILL"


def test_the_end_of_every_program_ends_the_run(supervise: Supervise) -> None:
    supervisor = supervise(shell("one", "exit 0", restart=False), shell("two", "exit 1", restart=False))
    supervisor.run()
    assert sorted((ended.name, ended.code) for ended in supervisor.exits) == [("one", 0), ("two", 1)]


def test_it_runs_in_a_thread(supervise: Supervise) -> None:
    supervisor = supervise(shell("web", FOREVER))
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    pid = pid_of(supervisor, "web")
    supervisor.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert not alive(pid)


def test_the_hook_may_stop_the_supervisor(supervise: Supervise) -> None:
    supervisor = supervise(shell("web", FOREVER), shell("once", "exit 5"), on_exit=lambda ended: supervisor.stop())
    supervisor.run()
    assert {ended.name for ended in supervisor.exits} == {"web", "once"}


def test_a_program_that_does_not_exist_stops_the_others(supervise: Supervise) -> None:
    supervisor = supervise(shell("web", FOREVER), Program("worker", ["/no/such/program"]))
    with pytest.raises(SupervisorError, match=r"worker cannot be started: .*No such file"):
        supervisor.start()
    assert supervisor.pid("web") is None
    assert [ended.name for ended in supervisor.exits] == ["web"]


def test_two_programs_of_one_name_are_refused() -> None:
    with pytest.raises(SupervisorError, match="same name"):
        Supervisor([shell("web", "true"), shell("web", "true")])


SCRIPT = """
import sys
from koan_django.core.supervisor import Program, Supervisor
script = "trap 'echo bye; exit 0' TERM; sleep 600 & echo pids $$ $!; wait; wait"
Supervisor([Program("web", ["/bin/sh", "-c", script]), Program("worker", ["/bin/sh", "-c", script])]).run()
print("ended cleanly")
"""


def children(text: str) -> list[int]:
    return [int(word) for line in text.splitlines() if "pids" in line for word in line.split("pids")[1].split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_in_order(process: StartProcess, number: int) -> None:
    supervisor = process("supervisor", [sys.executable, "-c", SCRIPT], cwd=ROOT)
    wait_until(lambda: len(children(supervisor.output)) == 4, what="both programs")
    pids = children(supervisor.output)
    supervisor.send(number)
    assert supervisor.wait() == 0
    assert supervisor.output.count("bye") == 2
    assert "ended cleanly" in supervisor.output
    wait_until(lambda: not any(alive(pid) for pid in pids), what="every process to be gone")


def test_ctrl_c_of_a_terminal_reaches_the_supervisor_alone(process: StartProcess) -> None:
    """A terminal sends SIGINT to the foreground group: the programs must not be in it."""
    supervisor = process("supervisor", [sys.executable, "-c", SCRIPT], cwd=ROOT)
    wait_until(lambda: len(children(supervisor.output)) == 4, what="both programs")
    os.killpg(supervisor.pid, signal.SIGINT)
    assert supervisor.wait() == 0
    assert "SIGINT" not in supervisor.output
    assert supervisor.output.count("bye") == 2


def test_nothing_outlives_a_supervisor_that_is_killed(process: StartProcess) -> None:
    supervisor = process("supervisor", [sys.executable, "-c", SCRIPT], cwd=ROOT)
    wait_until(lambda: len(children(supervisor.output)) == 4, what="both programs")
    pids = children(supervisor.output)
    assert all(alive(pid) for pid in pids)
    supervisor.send(signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in pids), what="every process to be gone")


def test_programs_survive_an_output_that_nobody_reads() -> None:
    script = (
        "import os, sys\n"
        "from koan_django.core.supervisor import Program, Supervisor\n"
        "noisy = Program('noisy', ['/bin/sh', '-c', 'for i in 1 2 3; do echo $i; done'], restart=False)\n"
        "sys.stdin.read()\n"
        "s = Supervisor([noisy]); s.run()\n"
        "os._exit(40 + s.exits[0].code)\n"  # an ordinary exit would try to flush once more
    )
    with Popen([sys.executable, "-c", script], cwd=ROOT, stdin=PIPE, stdout=PIPE) as run:
        assert run.stdout is not None and run.stdin is not None
        run.stdout.close()
        run.stdin.close()
        assert run.wait(20) == 40


def test_a_program_can_be_started_again_and_that_is_no_failure(supervise: Supervise, output: io.StringIO) -> None:
    supervisor = supervise(shell("worker", FOREVER))
    supervisor.start()
    pid = 0
    for _ in range(3):
        pid = pid_of(supervisor, "worker", other_than=pid)
        supervisor.restart("worker")
    pid_of(supervisor, "worker", other_than=pid)
    assert output.getvalue().count("was ended by SIGTERM") == output.getvalue().count("starts again in 0.1 s") == 3
    supervisor.stop()
    supervisor.restart("worker")
    assert len(supervisor.exits) == 4


def test_one_that_waits_after_a_failure_is_started_at_once(supervise: Supervise) -> None:
    hourly = RetryPolicy(first_delay=timedelta(hours=1), max_delay=timedelta(hours=1), jitter=0)
    supervisor = supervise(shell("worker", "exit 3"), restarts=hourly)
    supervisor.start()

    def again() -> bool:
        supervisor.restart("worker")
        return len(supervisor.exits) >= 3

    wait_until(again, what="the worker to have run three times")
    supervisor.stop()
