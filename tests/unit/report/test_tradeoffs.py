"""Charts of what is traded for what."""

from dataclasses import replace

from tests.unit.report.studies import clear_winner
from tests.unit.snapshots import config
from tune_vae.report.foresight import foresight
from tune_vae.report.tradeoffs import rate_distortion
from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.science.spectrum import Spectrum
from tune_vae.service.scouted import Scouted
from tune_vae.service.study_forecast import StudyForecast
from tune_vae.spec.space import Auto
from tune_vae.training.scout import Sighting


def foreseen(**changes: object) -> StudyForecast:
    spectrum = Spectrum((2.0, 1.0, 0.5, 0.5), total=8.0, values=64, rows=1000)
    points = CollapsePoints(2.0, 0.125, bernoulli=4.0, continuous_bernoulli=8.0)
    return StudyForecast.of("tiny", Auto(), [config(0, **changes)], points, spectrum, 0.5)


def test_forecast_is_drawn_beside_what_was_measured() -> None:
    measured = clear_winner()
    without = rate_distortion(measured)
    beside = rate_distortion(replace(measured, forecast=foreseen()))
    assert without
    assert beside
    assert beside.png != without.png
    assert "Dashed is what the data's spectrum says" in beside.caption
    assert "Dashed" not in without.caption
    assert beside.alt == without.alt


def test_decoder_without_a_curve_leaves_the_chart_as_it_is() -> None:
    measured = clear_winner()
    unknown = foreseen(likelihood={"laplace": {}})
    assert rate_distortion(replace(measured, forecast=unknown)) == rate_distortion(measured)


def test_forecast_scout_and_trials_are_in_one_picture() -> None:
    rows = clear_winner().results.rows
    curve = tuple(Sighting(2.0**i, 8.0 - i, 9.0, 0.02 * i, 3.0, 3.0) for i in range(1, 5))
    scout = Scouted(config(0, likelihood={"laplace": {}}), "digest", curve, 1.0)
    lost = Scouted(config(0), "digest", (), 1.0)
    alone, both, all_ = (
        foresight(foreseen(), *more) for more in ((), ([scout],), ([scout, lost], rows))
    )
    assert alone
    assert both
    assert all_
    assert len({alone.png, both.png, all_.png}) == 3
    assert "1 forecast and 1 scouted curves" in all_.alt
    assert ("Dashed" in alone.caption, "Dashed" in both.caption) == (False, True)
    assert "Points are trials" in all_.caption
    unknown = foreseen(likelihood={"laplace": {}})
    assert foresight(unknown, [lost], rows) is None
    assert foresight(unknown, [scout])
