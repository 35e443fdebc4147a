"""Draw the README's pictures from a study that was searched in this folder.

`python -m tests.browser.pictures studies/digits.yaml .assets` writes `outcome.svg`, what the
terminal says; `mlflow.png`, curves, trade-off and drawings in MLflow; and `report.png`, the head
of the report. It needs a Chromium.
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from tests.browser import window
from tune_vae import api, terminal
from tune_vae.service import views
from tune_vae.spec.study import StudySpec

WIDTH, HEIGHT = 1500, 1000


def outcome(spec: StudySpec) -> str:
    out = Console(record=True, width=112, file=io.StringIO(), highlight=False)
    terminal.report_text(out, api.results(spec), spec)
    drawing = out.export_svg(title=f"tune-vae report {spec.file}")
    # Without rich's web fonts: a picture that loads nothing.
    return re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.S)


def main() -> None:
    study, folder = sys.argv[1], Path(sys.argv[2])
    spec = StudySpec.load(study)
    (folder / "outcome.svg").write_text(outcome(spec), encoding="utf-8")
    written, trouble = api.report(spec)
    assert not trouble, trouble
    with window.browser(WIDTH, HEIGHT) as browser, window.served(Path(study)) as link:
        page = browser.new_page()
        page.goto(written.page.resolve().as_uri())
        page.screenshot(path=folder / "report.png")
        server, _, place = link.partition("/#/experiments/")
        page.goto(f"{server}/{views.view_link(place.partition('/')[0], views.CURVES)}")
        window.see(page, *views.SECTIONS.values())
        page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for()
        page.screenshot(path=folder / "mlflow.png")


if __name__ == "__main__":
    main()
