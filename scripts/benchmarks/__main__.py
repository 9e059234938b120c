"""Measure, print the ratios, write them down: `scripts/bench [ROW]… [--pairs N] [--output FILE]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loguru import logger

from livebuilder import console
from livebuilder.cache import Cache, cache_root
from livebuilder.errors import LivebuilderError
from scripts.benchmarks import rows
from scripts.benchmarks.ratios import Row, rows_to_json

# In this order, the builds first: they fetch what is not there yet, and that is not to be timed.
ROWS: Mapping[str, Callable[[rows.Bench], list[Row]]] = {
    "builds": rows.measure_builds,
    "time": rows.measure_root,
    "memory": rows.measure_memory,
    "sticks": rows.measure_sticks,
}


def host_facts() -> dict[str, Any]:
    """What else decides the figures: the machine, and how busy it was."""
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def main() -> int:
    """Run the rows that were asked for; 1 when one of them is not reached."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)}; all of them when none is named")
    parser.add_argument("--pairs", type=int, default=5, help="how many times each side of a timed row is measured")
    parser.add_argument("--output", type=Path, default=Path("out/bench.json"))
    asked = parser.parse_args()
    unknown = [name for name in asked.rows if name not in ROWS]
    if unknown or asked.pairs < 1:
        parser.error(f"no row is named {', '.join(unknown)}" if unknown else "--pairs: at least 1")
    console.setup()
    facts = host_facts()
    print(f"{facts['processors']} processors, load {facts['load'][0]}: a busy machine gives ratios that spread\n")
    measured: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="livebuilder-bench-") as scratch:
        for name, measure in ROWS.items():
            if name in (asked.rows or ROWS):
                folder = Path(scratch, name)
                folder.mkdir()
                logger.info("measuring {}", name)
                for row in measure(rows.Bench(folder, cache=Cache(cache_root()), pairs=asked.pairs)):
                    print(row.render(), flush=True)
                    measured.append(row)
    facts["load_at_end"] = [round(load, 2) for load in os.getloadavg()]
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(rows_to_json(measured, facts=facts), indent=2) + "\n")
    print(f"\n{asked.output}")
    return 0 if all(row.reached for row in measured if not row.aside) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LivebuilderError as error:
        sys.exit(f"error: {error.message}" + (f"\n  try: {error.hint}" if error.hint else ""))
