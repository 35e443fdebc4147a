"""What to change when no trial of a study finished healthy, in words and numbers."""

from tune_vae.science.health import Kind
from tune_vae.service.results import StudyResults
from tune_vae.spec.study import StudySpec

__all__ = ["remedy"]


def remedy(results: StudyResults, spec: StudySpec) -> str:
    """Why no trial finished healthy and which way to move the space; by the commonest end."""
    if not results.counts:
        return "None has ended yet."
    kind = max(results.counts, key=lambda kind: results.counts[kind])
    count, ended = results.counts[kind], len(results.ended)
    share = f"All {ended}" if count == ended else f"{count} of {ended}"
    match kind:
        case Kind.COLLAPSED:
            return f"{share} trials collapsed{_towards_less(results, spec, 'beta_norm', kind)}"
        case Kind.NEVER_FORMED:
            told = f"{share} trials never used a latent"
            return f"{told}{_towards_less(results, spec, 'beta_norm', kind)}"
        case Kind.DIVERGED:
            return f"{share} trials diverged{_towards_less(results, spec, 'lr', kind)}"
        case Kind.EXPLODING:
            return f"{share} trials exploded{_towards_less(results, spec, 'lr', kind)}"
        case Kind.STALLED:
            return f"{share} trials hardly learned: move the bounds of lr."
        case Kind.HOPELESS:
            return f"{share} trials were stopped by the pruner: give the study more trials."
        case Kind.FAILED:
            return f"{share} trials broke: `tune-vae report` says with which error."
    return "Give it more epochs."


_CAUSE = {
    "beta_norm": "the KL term weighs too much wherever it was tried",
    "lr": "the steps are too large wherever they were tried",
}
_DECADES = {"beta_norm": 1e-3, "lr": 1e-2}
"""How far below the lowest value that failed the proposed range begins."""


def _towards_less(results: StudyResults, spec: StudySpec, name: str, kind: Kind) -> str:
    lowest = min(getattr(row.config, name) for row in results.ended if row.kind == kind.value)
    tried = f", down to the lowest {name} that was tried: {lowest:.3g} (`{name}` is "
    tried += f"{spec.knobs[name].describe()})"
    if lowest == 0:
        return f"{tried}. The weight is not the cause: try a smaller network or a smaller sigma."
    # With a point: without one, YAML takes 1e-05 for text.
    bounds = f"[{lowest * _DECADES[name]:.1e}, {lowest:.1e}]"
    return (
        f"{tried}: {_CAUSE[name]}. Lower the bounds, for example "
        f"`{name}: {{log_uniform: {bounds}}}`, under a new name of the study."
    )
