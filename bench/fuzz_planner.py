# SPDX-License-Identifier: Apache-2.0
"""Plans of random tiny graphs against a brute force: no bound may be exceeded, nothing proved be beaten.

    python bench/fuzz_planner.py --graphs 2000 --seed 0 --kind strips

For each graph the planner's plan layer by layer and its least plan with groups, each twice: with all layouts
tried, and with the bounds over all layouts instead. Every plan is replayed by the checker. The exit code is 1
if something was found.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from planner_trial import GRAPHS, Tally, try_seed


def main() -> int:
    """Try graphs from a seed on; says what is wrong with a plan, with the seed that makes the graph."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--graphs", type=int, default=2000)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--kind", choices=GRAPHS, default="any", help="of graphs, and of what plans may do")
    given = asked.parse_args()
    tally, start, wrong = Tally(), time.monotonic(), 0
    for n in range(given.graphs):
        for text in try_seed(given.seed + n, tally, given.kind):
            wrong += 1
            print(f"seed {given.seed + n}: {text}", flush=True)
        if sys.stderr.isatty():
            took = time.monotonic() - start
            print(
                f"\r{n + 1} of {given.graphs} graphs, {wrong} faults, {took:.0f} s", end="", file=sys.stderr
            )
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(f"{given.graphs} graphs: {tally}; {wrong} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
