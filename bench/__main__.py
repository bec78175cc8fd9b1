"""`python -m bench`: runs the chosen rows, ours and the peer in turn, and prints the table of medians and ratios."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from bench.race import Race
from bench.rows import ALL, chosen
from bench.table import markdown
from bench.tools import Missing


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--rows", default="", help="parts of names, separated by blanks or commas; all but smoke if empty"
    )
    parser.add_argument("--runs", type=int, default=5, help="how often each side runs a row")
    parser.add_argument(
        "--settle", type=float, default=20.0, help="seconds to wait at most for a quiet machine before a run"
    )
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir(), "pli-bench"), help="for everything made"
    )
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what was started is stopped on the way out
    if given.rows == "list":
        print("\n".join(row.name for row in ALL))
        return 0
    rows = chosen(given.rows)
    if not rows:
        print(f"no row is called {given.rows}; --rows list prints them", file=sys.stderr)
        return 2
    try:
        done = Race(given.work, given.runs, given.settle).all(rows)
    except Missing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(markdown(done))
    if given.json:
        given.json.write_text(json.dumps([vars(row) for row in done], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
