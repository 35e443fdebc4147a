"""What is forecast of a study, from points and a spectrum that are given."""

from typing import Any

import pytest

from tests.trials import trial_config
from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.science.critical_beta import CriticalBeta
from tune_vae.science.spectrum import Spectrum
from tune_vae.service.study_forecast import StudyForecast, critical_key
from tune_vae.spec.space import Auto, Choice, Fixed, Node, Range

# With N 64 and M 4, beta is 16 times beta_norm. The mean variance is 0.125, as of these points.
SPECTRUM = Spectrum((2.0, 1.0, 0.5, 0.5), total=8.0, values=64, rows=1000)
POINTS = CollapsePoints(2.0, 0.125, bernoulli=4.0, continuous_bernoulli=8.0)
FITTED = {"sigma": {"optimal": {}}}
UNIT = {"sigma": {"fixed": {"sigma": 1.0}}}
LAPLACE = {"likelihood": {"laplace": {}}}
WIDE = Range(1e-3, 10.0, log=True)


def forecast(*changes: dict[str, Any], space: Node = WIDE, **facts: Any) -> StudyForecast:
    configs = [trial_config(**one) for one in changes]
    given = {"points": POINTS, "spectrum": SPECTRUM, "edge": 0.0} | facts
    return StudyForecast.of("small", space, configs, **given)


def test_each_decoder_has_its_collapse_and_its_share_of_the_range() -> None:
    found = forecast(UNIT, FITTED, LAPLACE)
    fixed, fitted, unknown = found.decoders
    assert (fixed.decoder, fixed.collapse) == ("gaussian·fixed 1", pytest.approx(2 / 16))
    assert (fitted.decoder, fitted.collapse) == ("gaussian·optimal", pytest.approx(1.0))
    assert found.unknown == [unknown.decoder] == ["laplace·optimal"]
    # Of four decades: log10(10 / 0.125), log10(10 / 1), and nothing of what is not known.
    shares = [found.dead_of(one) for one in found.decoders]
    assert shares == pytest.approx([1.9031 / 4, 0.25, 0.0], abs=1e-4)
    assert found.dead == pytest.approx(sum(shares) / 3)


@pytest.mark.parametrize(
    ("space", "dead"),
    [
        (Range(0.0, 4.0), 0.75),
        (Range(2.0, 4.0), 1.0),
        (Range(0.1, 0.9), 0.0),
        (Fixed(0.5), 0.0),
        (Fixed(2), 1.0),
        (Choice((Fixed(0.1), Fixed(2.0), Range(0.0, 2.0), Fixed(0.2))), 0.375),
        (Auto(), 0.0),
    ],
)
def test_share_of_a_space_follows_from_its_kind(space: Node, dead: float) -> None:
    assert forecast(FITTED, space=space).dead == pytest.approx(dead)


def test_bounds_hold_the_calibrated_point_and_end_before_the_collapse() -> None:
    fixed, fitted = forecast(UNIT, FITTED).decoders
    assert fitted.bounds == pytest.approx((0.1 / 16, 0.5))
    assert fixed.bounds is not None
    assert fitted.linear
    # With sigma 1 the same error is told at beta = sigma² of the fitted one.
    told = fitted.linear.at(1.0)
    assert fixed.bounds == pytest.approx((0.1 * told.told / 16, 0.5 * 2 / 16))
    both = forecast(UNIT, FITTED).bounds
    assert both == (float(f"{fixed.bounds[0]:.1e}"), 0.5)
    assert forecast(UNIT, LAPLACE).bounds is None


def test_decoder_without_room_above_the_calibrated_point_still_has_bounds() -> None:
    """Of white data the collapse is at beta 1."""
    points = CollapsePoints(0.125, 0.125, 0.125, 0.125)
    white = Spectrum((0.125,) * 64, total=8.0, values=64, rows=9999)
    found = forecast(FITTED, points=points, spectrum=white)
    assert found.bounds == (pytest.approx(0.05 / 16, rel=0.05), pytest.approx(0.5 / 16, rel=0.05))


def test_curve_reaches_from_the_lower_bound_to_the_collapse() -> None:
    (fitted,) = forecast(FITTED).decoders
    curve = fitted.curve()
    assert fitted.bounds is not None
    assert fitted.norm_at(curve[0]) == pytest.approx(fitted.bounds[0])
    assert fitted.norm_at(curve[-1]) == pytest.approx(1.0)
    assert curve[0].used == 4
    assert curve[-1].rate_nats == pytest.approx(0, abs=1e-9)
    assert forecast({"likelihood": {"bernoulli": {}}, "sigma": None}).curves == {}


def test_decoders_of_several_networks_are_told_once() -> None:
    other = {"network": {"mlp": {"hidden": [8]}}}
    assert len(forecast(FITTED, FITTED | other, FITTED | {"latent_dim": 2}).decoders) == 2


def test_words_name_range_proposal_and_what_is_not_known() -> None:
    told = " ".join(forecast(FITTED).sentences())
    assert "beta_norm is 0.001 … 10 (log), of which 25% is forecast dead; proposed: " in told
    assert "`beta_norm: {log_uniform: [6.3e-03, 5.0e-01]}`, or `beta_norm: auto`" in told
    assert "More than 4 directions hold 90% of the variance" in told
    few = Spectrum((4.0, 3.5), total=8.0, values=64, rows=3)
    told = " ".join(forecast(FITTED, LAPLACE, spectrum=few).sentences())
    assert "2 directions hold" in told
    assert "Nothing is known of laplace·optimal" in told
    assert "only 3 examples for 64 values" in told
    assert "proposed" not in told


def test_critical_beta_of_levels_gives_bounds_and_that_of_counts_is_only_told() -> None:
    form = FITTED | {"likelihood": {"discretized_gaussian": {"levels": 17}}}
    wide = form | {"sigma": {"fixed": {"sigma": 1.0}}}
    counted = {"likelihood": {"poisson": {}}, "sigma": None, "levels": None}
    refused = {"likelihood": {"categorical": {}}, "sigma": None}
    betas = (*3 * [CriticalBeta(8.0)], CriticalBeta(None, "of its levels"))
    keys = (critical_key(trial_config(**one)) for one in (form, wide, counted, refused))
    known = dict(zip(keys, betas, strict=True))
    found = forecast(form, wide, counted, refused, critical=known)
    levels, fixed, counts, other = found.decoders
    assert (levels.collapse, counts.collapse, other.collapse) == (0.5, 0.5, None)
    assert levels.bounds == pytest.approx((0.1 / 16, 0.25))
    assert (fixed.collapse, fixed.bounds, counts.bounds) == (0.5, None, None)
    assert found.unknown == [fixed.decoder, "poisson", "categorical"]
    told = " ".join(found.sentences())
    assert "Above its critical beta poisson has no latents that grow" in told
    assert "Nothing is known of categorical before training: of its levels." in told
    # With a prior that learns, or bits that are free, latents may live beyond it.
    for change in ({"free_bits": 0.1}, {"prior": {"normal": {}}}):
        assert critical_key(trial_config(**form, **change)) == ""
        assert forecast(form | change, critical=known).decoders[0].collapse is None
