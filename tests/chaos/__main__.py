"""Runs crash rounds and prints one closing line per series.

    python -m chaos rounds --rounds 1000 --seed 7 [--first 731] [--database-url URL]
    python -m chaos failpoints [--database-url URL]
    python -m chaos outage --seconds 600 [--database-url URL]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chaos.outage import outage
from chaos.series import failpoints, rounds
from chaos.world import World


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("series", choices=["rounds", "failpoints", "outage"])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="the number of the first round")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--database-url", help="PostgreSQL instead of SQLite")
    options = parser.parse_args()
    series: dict[str, Callable[[World], bool]] = {
        "rounds": lambda world: rounds(world, options.rounds, options.seed, options.first),
        "failpoints": failpoints,
        "outage": lambda world: outage(world, options.seconds),
    }
    store = "PostgreSQL" if options.database_url else "SQLite"
    title = {
        "rounds": f"{options.rounds} rounds of seed {options.seed}" + (f" from {options.first}" if options.first > 1 else ""),
        "failpoints": "failpoints",
        "outage": f"server away for {options.seconds:g} s",
    }[options.series]
    print(f"{title} on {store}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="slipway-chaos-"))
    began = time.monotonic()
    world = World(directory, options.database_url)
    try:
        clean = series[options.series](world)
    finally:
        world.close()
    verdict = "ok" if clean else f"FAILED, everything is kept in {directory}"
    print(f"chaos: {title} on {store}: {world.account}\nchaos: {verdict} after {time.monotonic() - began:.0f} s", flush=True)
    if clean:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
