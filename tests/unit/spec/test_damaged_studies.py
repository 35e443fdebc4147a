"""A study damaged at random is refused in words, or still a study of which every draw builds."""

import io
import re
from pathlib import Path
from random import Random

from rich.console import Console

from tests.unit.spec.choosers import RandomChooser
from tests.unit.spec.studies import WIDE
from tune_vae import terminal
from tune_vae.errors import StudyFileError
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

PIECES = [
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ", ",
        "- ",
        "\n",
        "\n  ",
        "'",
        '"',
        "#",
        "|",
        "? ",
        "\t",
        "\\",
        "é",
    ),
    *("&a ", "*a", "!!int ", "~", "null", "true", ".nan", ".inf", "-1", "0", "1e400", "9" * 30),
    *("choice", "uniform", "int", "{choice: [1, 2]}", "{int: [1, 4]}", "{uniform: [0, 1]}"),
    *("gaussian", "study", "search", "[]", "{}"),
]


def damaged(text: str, random: Random) -> str:
    """The text after one small accident: a word in another's place, a slip, or a moved line."""
    accident = random.choice(["word", "slip", "line"])
    if accident == "word":
        words = list(re.finditer(r"[\w.-]+", text))
        one, other = random.sample(words, 2)
        return text[: one.start()] + other.group() + text[one.end() :]
    if accident == "slip":
        begin = random.randrange(len(text))
        end = begin + random.choice([0, 1, 3, 10])
        return text[:begin] + random.choice([*PIECES, "", ""]) + text[end:]
    lines = text.splitlines(keepends=True)
    lines.insert(random.randrange(len(lines)), lines.pop(random.randrange(len(lines))))
    return "".join(lines)


def check_draws(spec: StudySpec) -> None:
    for trial in range(3):
        drawn = spec.draw(RandomChooser(trial))
        config = TrialConfig.of(spec, drawn, trial=trial, shape=(1, 8, 8), levels=17)
        assert TrialConfig.model_validate_json(config.member().config) == config


def check_message(error: StudyFileError) -> None:
    out = Console(file=io.StringIO(), width=100, soft_wrap=True, emoji=False, highlight=False)
    terminal.show_error(out, error)
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert lines[0].startswith("error: ")
    assert max(map(len, lines)) < 250
    assert all(c.isprintable() for line in lines for c in line)


def test_damaged_study_is_refused_in_words_or_still_works(tmp_path: Path) -> None:
    file, random = tmp_path / "study.yaml", Random(0)
    refused, trials = 0, 200
    for _ in range(trials):
        file.write_text(damaged(WIDE, random), encoding="utf-8")
        try:
            check_draws(StudySpec.load(file))
        except StudyFileError as error:
            check_message(error)
            refused += 1
    assert 10 < refused < trials - 10
