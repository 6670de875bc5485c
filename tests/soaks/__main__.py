"""``python -m tests.soaks AREA --seconds 120 --seed 7``."""

from __future__ import annotations

import argparse
import random
import sys

from . import bloat, ledger, messaging, outbox, partitions, publishing, replays, restarts, tenants

AREAS = {
    "bloat": bloat.soak,
    "ledger": ledger.soak,
    "messaging": messaging.soak,
    "outbox": outbox.soak,
    "partitions": partitions.soak,
    "publishing": publishing.soak,
    "replays": replays.soak,
    "restarts": restarts.soak,
    "tenants": tenants.soak,
}


def main(arguments: list[str]) -> int:
    """Run the soak; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soaks", description=__doc__)
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--seconds", type=float, default=60, help="how long faults are injected")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat its faults")
    asked = parser.parse_args(arguments)
    seed = random.randrange(10_000) if asked.seed is None else asked.seed
    holds, words = AREAS[asked.area](asked.seconds, seed)
    print(f"soak {asked.area}, seed {seed}, {asked.seconds:g} s: {words}", flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
