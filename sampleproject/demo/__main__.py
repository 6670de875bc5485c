"""Run the demo: set up, start web, worker and beat, push photographs through, report, serve.

Environment: ``EXIT=1`` ends after the report, ``PHOTOS=folder`` takes your own files, ``KEEP=1`` reuses the state of
the last demo, ``PORT=8000`` wants a port, ``DEMO_DIR`` another folder than ``var/demo``.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .place import PORT, Place, free_port, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent.parent
USER = "demo"


def main(environ: Mapping[str, str]) -> int:
    """Run the demo; return the exit code."""
    began = time.monotonic()
    os.chdir(ROOT)
    place, sentence = prepare(
        Path(environ.get("DEMO_DIR", ROOT / "var" / "demo")).absolute(), keep=_on(environ, "KEEP")
    )
    say(sentence)
    os.environ.update(place.environment())
    password = _set_up()
    paths = _pictures(place, environ.get("PHOTOS", ""))
    if not paths:
        say(f"There is no file in {environ['PHOTOS']}.")
        return 2
    port, is_wanted = free_port(int(environ.get("PORT", PORT)))
    if not is_wanted:
        say(f"Port {environ.get('PORT', PORT)} is taken by something else; using {port}.")
    return _run(place, port, paths, password, ends=_on(environ, "EXIT"), began=began)


def say(text: str) -> None:
    """Write a line."""
    print(text, flush=True)  # noqa: T201  # it is what the demo is for


def _set_up() -> str:
    """Make the tables and the user of the admin; return the password."""
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    say("Creating the database ...")
    call_command("migrate", verbosity=0)
    password = secrets.token_urlsafe(9)
    user, _ = get_user_model().objects.get_or_create(username=USER, defaults={"is_staff": True, "is_superuser": True})
    user.set_password(password)
    user.save()
    return password


def _pictures(place: Place, folder: str) -> list[Path]:
    if folder:
        given = Path(folder).expanduser()
        if not given.is_dir():
            say(f"{folder} is no folder.")
            return []
        return sorted(path for path in given.iterdir() if path.is_file())
    from .pictures import SCENES, draw_all

    say(f"Drawing {len(SCENES)} photographs at camera size ...")
    return draw_all(place.pictures)


def _run(place: Place, port: int, paths: list[Path], password: str, *, ends: bool, began: float) -> int:
    from .flow import Flow, StuckError
    from .processes import Processes
    from .visitor import Visitor, VisitorError

    say("Starting web, worker and beat ...")
    with Processes(place, port) as processes:
        visitor = Visitor(port)
        flow = Flow(visitor, processes.supervisor.say)
        failure = ""
        try:
            visitor.wait("/health/ready", 60)
            flow.wait_for_worker()
            say(f"The page: http://127.0.0.1:{port}/   The admin: /admin/, user {USER}, password {password}")
            flow.push(paths)
        except (VisitorError, StuckError) as error:
            failure = str(error)
        except KeyboardInterrupt:
            say("Stopping ...")
            return 130
        code = _report(place, failure, time.monotonic() - began)
        if not ends:
            say(f"\nThe page: http://127.0.0.1:{port}/   The admin: /admin/, user {USER}, password {password}")
            say("Ctrl-C ends the demo.")
            processes.supervisor.run()
            return 0
    return code


def _report(place: Place, failure: str, seconds: float) -> int:
    from sampleproject.gallery import report

    found = report.build()
    problems = [*([failure] if failure else []), *report.problems(found)]
    place.report.write_text(json.dumps(found, indent=2, ensure_ascii=False, default=str) + "\n")
    for line in _lines(found, problems, seconds):
        say(line)
    say(f"  report          {place.report}")
    return 1 if problems else 0


def _lines(found: dict[str, Any], problems: list[str], seconds: float) -> list[str]:
    outcomes = [each["outcome"] for each in found["inputs"]]
    published, refused = outcomes.count("published"), outcomes.count("refused")
    messages = found["messages"]
    renditions = sum(len(each["derivations"]) for each in found["inputs"])
    runs = ", ".join(f"{name} {run['succeeded']}/{run['runs']}" for name, run in found["runs"].items())
    return [
        "",
        f"  files           {len(outcomes)}: {published} published, {refused} refused",
        f"  renditions      {renditions}",
        "  messages        " + ", ".join(f"{count} {name}" for name, count in messages.items()),
        f"  duplicates      {found['duplicates_suppressed']} suppressed",
        f"  archived        {found['archived']}",
        f"  scheduled runs  {runs}",
        f"  health          {found['health']}",
        f"  took            {seconds:.0f} s",
        *[f"  PROBLEM         {problem}" for problem in problems],
        "  Everything holds." if not problems else "  The report does not hold.",
    ]


def _on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").lower() not in ("", "0", "no", "false")


if __name__ == "__main__":
    try:
        sys.exit(main(os.environ))
    except KeyboardInterrupt:
        sys.exit(130)
