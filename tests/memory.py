"""How much memory processes of this machine take, by what Linux tells of them.

Pages that several processes share count in parts (proportional set size), so that sums are right.
"""

from pathlib import Path

__all__ = ["mebibytes", "of_file"]


def mebibytes(process: int, kind: str = "Pss") -> float:
    """Of all memory of a process; 0 if it has ended.

    Arguments:
        process: Its number.
        kind: A line of `smaps_rollup`, such as `Private_Dirty`: what it alone has written.
    """
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def of_file(process: int, file: Path) -> float:
    """Of its share of a file that it has mapped."""
    total, counts = 0, False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            counts = line.endswith(str(file))
        elif counts and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total / 1024
