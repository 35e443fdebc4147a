"""What a person sees in the terminal: the live view, plain lines, tables and errors.

Colour only helps; every fact also stands in words. The most important comes first in a line,
because narrow terminals cut the end.
"""

from tune_vae.terminal.checked import show_check
from tune_vae.terminal.console import console
from tune_vae.terminal.diagnosis import show_diagnosis
from tune_vae.terminal.forecast import show_forecast
from tune_vae.terminal.json_lines import (
    JsonView,
    write_diagnosis,
    write_report,
    write_results,
    write_status,
)
from tune_vae.terminal.live import LiveView, view
from tune_vae.terminal.mistakes import show_error
from tune_vae.terminal.note import note
from tune_vae.terminal.one_trial import show_exported, show_trained, training
from tune_vae.terminal.outcome import report_text, show_results, show_written
from tune_vae.terminal.plain import PlainView
from tune_vae.terminal.scout import show_scouts
from tune_vae.terminal.serving import show_served
from tune_vae.terminal.standing import show_status

__all__ = [
    "JsonView",
    "LiveView",
    "PlainView",
    "console",
    "note",
    "report_text",
    "show_check",
    "show_diagnosis",
    "show_error",
    "show_exported",
    "show_forecast",
    "show_results",
    "show_scouts",
    "show_served",
    "show_status",
    "show_trained",
    "show_written",
    "training",
    "view",
    "write_diagnosis",
    "write_report",
    "write_results",
    "write_status",
]
