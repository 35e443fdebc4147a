"""A terminal's screen: what a person sees after control sequences have done their work."""

import re
from collections.abc import Iterator

from rich.cells import cell_len

TOKEN = re.compile(r"\x1b\[(?P<numbers>[0-9;?]*)(?P<verb>[A-Za-z])|(?P<other>.)", re.DOTALL)


class Screen:
    """As many columns as said, and lines without end.

    Knows what rich writes: carriage return, line feed, colours, cursor up and down, erasing a
    line, hiding the cursor. Anything else is an error, so that nothing passes unseen.
    """

    def __init__(self, width: int) -> None:
        self.width, self.row, self.column = width, 0, 0
        self.cells: dict[int, list[str]] = {}

    def feed(self, text: str) -> "Screen":
        for token in TOKEN.finditer(text):
            if token["verb"]:
                self._control(token["verb"], token["numbers"])
            else:
                self._put(token["other"])
        return self

    def _control(self, verb: str, numbers: str) -> None:
        if verb == "m" or (verb in "hl" and numbers.startswith("?")):
            return
        if verb == "K" and numbers == "2":
            self.cells.pop(self.row, None)
        elif verb in "AB":
            count = int(numbers or 1)
            self.row = max(0, self.row - count if verb == "A" else self.row + count)
        else:
            raise AssertionError(f"unknown control sequence {numbers}{verb}")

    def _put(self, character: str) -> None:
        if character == "\n":
            self.row += 1
        elif character == "\r":
            self.column = 0
        else:
            assert character.isprintable(), repr(character)
            if self.column + cell_len(character) > self.width:
                self.row, self.column = self.row + 1, 0
            line = self.cells.setdefault(self.row, [])
            line += [" "] * (self.column + 1 - len(line))
            line[self.column] = character
            self.column += cell_len(character)

    @property
    def lines(self) -> list[str]:
        """All lines down to the last that has anything, without spaces at their ends."""
        last = max((row for row, line in self.cells.items() if "".join(line).strip()), default=-1)
        return ["".join(self.cells.get(row, [])).rstrip() for row in range(last + 1)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __contains__(self, text: str) -> bool:
        return any(text in line for line in self)
