"""A colour and a sign for each verdict, the same on every page.

The colours are told apart by people who confuse red and green, and most of them in grey; the
sign says it without any colour.

References:
    | Color Universal Design (Okabe & Ito, 2008)
    | https://jfly.uni-koeln.de/color
"""

from tune_vae.science.health import Kind

__all__ = ["COLOURS", "SIGNS"]

COLOURS = {
    Kind.HEALTHY: "#009e73",
    Kind.WARMING_UP: "#a8b0b8",
    Kind.PARTIALLY_COLLAPSED: "#7fb77e",
    Kind.RECOVERING: "#56b4e9",
    Kind.OVERFITTING: "#b8a400",
    Kind.COLLAPSED: "#d55e00",
    Kind.NEVER_FORMED: "#e69f00",
    Kind.STALLED: "#8c6d46",
    Kind.EXPLODING: "#cc79a7",
    Kind.DIVERGED: "#7b3294",
    Kind.HOPELESS: "#8a9097",
    Kind.FAILED: "#1d1d1f",
}

SIGNS = {
    Kind.HEALTHY: "✓",
    Kind.WARMING_UP: "…",
    Kind.PARTIALLY_COLLAPSED: "✓",
    Kind.RECOVERING: "↗",
    Kind.OVERFITTING: "✓",
    Kind.COLLAPSED: "✗",
    Kind.NEVER_FORMED: "✗",
    Kind.STALLED: "–",
    Kind.EXPLODING: "∅",
    Kind.DIVERGED: "∅",
    Kind.HOPELESS: "✂",
    Kind.FAILED: "!",
}
