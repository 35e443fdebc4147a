"""Draw the README's picture of the outcome from a study that was searched in this folder.

python .ci/picture.py studies/digits.yaml .assets/outcome.svg
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from tune_vae import api, terminal
from tune_vae.spec.study import StudySpec

study, picture = sys.argv[1:]
spec = StudySpec.load(study)
out = Console(record=True, width=112, file=io.StringIO(), highlight=False)
terminal.report_text(out, api.results(spec), spec)
# Without rich's web fonts: a picture that loads nothing.
drawing = re.sub(
    r"@font-face \{.*?\}", "", out.export_svg(title=f"tune-vae report {study}"), flags=re.S
)
Path(picture).write_text(drawing, encoding="utf-8")
