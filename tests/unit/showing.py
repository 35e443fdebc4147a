"""A search as `tune-vae search` shows it, without the search: `python -m tests.unit.showing END`.

It shows what runs, then what has ended, waits for a line on the standard input, and ends. Then it
writes END, which tells that nothing stopped it.
"""

import sys
from pathlib import Path

from tests.unit.snapshots import ROWS, results, snapshot, spec
from tune_vae import terminal


def main() -> None:
    out = terminal.console()
    as_json = "--json" in sys.argv
    with terminal.view(out, spec(), as_json=as_json) as show:
        show(snapshot())
        show(snapshot(*ROWS))
        sys.stdin.readline()
        show(snapshot(results=results(*ROWS)))
    (terminal.write_results if as_json else terminal.show_results)(out, results(*ROWS), spec())
    Path(sys.argv[1]).write_text("done")


if __name__ == "__main__":
    main()
