"""What `tune-vae serve` says once it serves."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from tune_vae.service.serve import Served

__all__ = ["show_served"]


def show_served(out: Console, served: "Served") -> None:
    """The one line that other machines need, and how they come by the token."""
    if served.open:
        out.print(
            "[b red]warning:[/] there is no token: whoever reaches this address can read, change "
            "and delete every study here"
        )
    out.print(f"[b]tune-vae search STUDY --server {escape(served.address)}[/]")
    out.print(f"[dim]pages: http://{escape(served.address)}[/]")
    if served.token:
        out.print(
            f"The token is in {escape(str(served.token))}: elsewhere set TUNE_VAE_TOKEN to it "
            "first; in a browser it is the password of any user. What is sent is not encrypted."
        )
