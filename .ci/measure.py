"""Wall time and peak memory of a command and all its children (Linux).

    python .ci/measure.py tune-vae search studies/digits.yaml

Memory is the proportional set size, so that what processes share counts once, sampled twice a
second.
"""

import subprocess
import sys
import time
from pathlib import Path


def family(root: int) -> set[int]:
    """The process `root` and its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found, grown = {root}, True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in found}
        grown = not children <= found
        found |= children
    return found


def memory(pids: set[int]) -> int:
    """Bytes, by proportional set size."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def main() -> int:
    begin, peak = time.monotonic(), 0
    command = subprocess.Popen(sys.argv[1:])
    while command.poll() is None:
        peak = max(peak, memory(family(command.pid)))
        time.sleep(0.5)
    seconds = time.monotonic() - begin
    print(f"{seconds:.0f} s wall, {peak / 2**30:.2f} GiB peak, exit code {command.returncode}")
    return command.returncode


if __name__ == "__main__":
    sys.exit(main())
