"""No sentence of a report without a claim, and no claim that its data do not bear out.

Studies of three kinds are drawn by lot: one with a clear winner, one with a tie, one in which all
collapsed. Every sentence must be of a form that is known here, and each form is checked with the
rows and curves themselves, by arithmetic of its own.
"""

import itertools
import math
import random
import re
import statistics
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.report.studies import BERNOULLI, FIXED, OPTIMAL, dead, evidence, finished
from tune_vae.report.conclusions import doubts, findings
from tune_vae.report.evidence import Evidence
from tune_vae.science.health import Kind
from tune_vae.service.rows import TrialRow

SEEDS = range(8)
DECODERS = ({"sigma": FIXED}, {"sigma": OPTIMAL}, BERNOULLI)


def settings(lot: random.Random) -> dict[str, object]:
    drawn = {"beta_norm": 10 ** lot.uniform(-3, 0), "lr": 10 ** lot.uniform(-4, -1)}
    return drawn | lot.choice(DECODERS)


def clear_winner(seed: int) -> Evidence:
    lot = random.Random(f"winner {seed}")
    many = lot.randint(10, 24)
    values = [3.0, *(3.2 + lot.uniform(0, 1) for _ in range(many))]
    lot.shuffle(values)
    rows = [
        finished(n, value, distance=lot.uniform(5, 50), **settings(lot))
        for n, value in enumerate(values)
    ]
    first = lot.randrange(len(rows))
    rows[first] = replace(
        rows[first],
        config=rows[first].config.model_copy(update={"known_good": "optimal sigma at beta 1"}),
    )
    winner, bound = values.index(3.0), lot.choice([None, {"lr": 0.098}, {"beta_norm": 0.00101}])
    rows[winner] = replace(rows[winner], config=rows[winner].config.model_copy(update=bound or {}))
    ends = lot.choices([Kind.COLLAPSED, Kind.HOPELESS, Kind.DIVERGED], k=lot.randint(3, 9))
    rows += [
        dead(len(rows) + n, kind, epochs=lot.randint(3, 15), **settings(lot) | {"beta_norm": 5.0})
        for n, kind in enumerate(ends)
    ]
    return evidence(rows, wobble=0.003)


def tie(seed: int) -> Evidence:
    lot = random.Random(f"tie {seed}")
    alike, behind = lot.randint(2, 9), lot.randint(0, 6)
    values = [3.0 + lot.uniform(0, 0.05) for _ in range(alike)]
    values += [3.5 + lot.uniform(0, 1) for _ in range(behind)]
    lot.shuffle(values)
    rows = [
        finished(n, value, distance=lot.choice([9.0, 20.0]), **settings(lot))
        for n, value in enumerate(values)
    ]
    return evidence(rows, wobble=0.03)


def all_collapsed(seed: int) -> Evidence:
    lot = random.Random(f"collapsed {seed}")
    rows = [
        dead(n, Kind.COLLAPSED, epochs=lot.randint(2, 20), **settings(lot))
        for n in range(lot.randint(3, 12))
    ]
    return evidence(rows, planned=len(rows) + lot.choice([0, 4]))


STUDIES = {
    f"{make.__name__} {seed}": make(seed)
    for make in (clear_winner, tie, all_collapsed)
    for seed in SEEDS
}


def ranked(study: Evidence) -> list[TrialRow]:
    return sorted(
        (row for row in study.results.rows if row.values), key=lambda row: (row.values, row.trial)
    )


def row_of(study: Evidence, number: str) -> TrialRow:
    return next(row for row in study.results.rows if row.trial == int(number))


def jitter(study: Evidence) -> float:
    """1.4826 · median |d - median d| / √2 of the last five epochs; the median over trials."""
    found = []
    for row in ranked(study):
        late = [one.bits_per_dim for one in study.histories[row.trial].reports[-5:]]
        steps = [b - a for a, b in itertools.pairwise(late)]
        middle = statistics.median(steps)
        spread = statistics.median([abs(step - middle) for step in steps])
        found.append(1.4826 * spread / math.sqrt(2))
    return statistics.median(found)


def margin(study: Evidence) -> float:
    return 2 * math.sqrt(2) * jitter(study)


def said(row: TrialRow) -> str:
    decoder = row.config.decoder
    return (
        f"{decoder}, beta_norm {row.config.beta_norm:.3g}, linear schedule, lr {row.config.lr:.2g}"
    )


def alike(study: Evidence) -> list[TrialRow]:
    rows = ranked(study)
    return [row for row in rows if row.values[0] - rows[0].values[0] <= margin(study)]


def best_is(study: Evidence, m: re.Match[str]) -> bool:
    first, second = ranked(study)[:2]
    ahead = second.values[0] - first.values[0]
    return (
        len(alike(study)) == 1
        and m["trial"] == str(first.trial)
        and m["value"] == f"{first.values[0]:.4g}"
        and m["ahead"] == f"{ahead:.2g}"
        and m["other"] == str(second.trial)
        and m["setting"] == said(first)
    )


def cannot_be_told_apart(study: Evidence, m: re.Match[str]) -> bool:
    same = alike(study)
    names = re.findall(r"\d+", m["who"])
    whole = [str(row.trial) for row in same] if len(same) <= 6 else [str(len(same))]
    span = (f"{same[0].values[0]:.4g}", f"{same[-1].values[0]:.4g}")
    setting = (m["lowest"], m["setting"]) == (str(same[0].trial), said(same[0]))
    return len(same) > 1 and names == whole and (m["low"], m["high"]) == span and setting


def decoders(study: Evidence, m: re.Match[str]) -> bool:
    best: dict[str, float] = {}
    for row in ranked(study):
        best.setdefault(row.config.decoder, row.values[0])
    low = min(best.values())
    same = {name for name, value in best.items() if value - low <= margin(study)}
    others = {name: f"{value - low:.2g}" for name, value in best.items() if name not in same}
    told = dict(re.findall(r"(\S+) \+([\d.e-]+)", m["others"] or ""))
    named = (m["one"] or m["several"]).split(", ")
    return set(named) == same and told == others and (m["one"] is None) == (len(same) > 1)


def samples(study: Evidence, m: re.Match[str]) -> bool:
    first, distances = (
        ranked(study)[0],
        {r.trial: r.appraisal["sample_distance"] for r in ranked(study)},
    )
    least = min(distances.values())
    if m["too"]:
        return (
            m["too"] == str(first.trial)
            and m["too_at"] == f"{least:.3g}" == f"{distances[first.trial]:.3g}"
        )
    return (
        distances[int(m["other"])] == least < distances[first.trial]
        and m["at"] == f"{least:.3g}"
        and (m["mine"], m["mine_at"]) == (str(first.trial), f"{distances[first.trial]:.3g}")
    )


def correlation(study: Evidence, m: re.Match[str]) -> bool:
    from scipy.stats import spearmanr

    rows = ranked(study)
    pairs = [(row.values[0], row.appraisal["sample_distance"]) for row in rows]
    truth = float(spearmanr(*zip(*pairs, strict=True)).statistic)
    return abs(float(m["rank"]) - truth) <= 0.0051 and int(m["count"]) == len(rows) >= 8


def narrow(study: Evidence, m: re.Match[str]) -> bool:
    rows = ranked(study)
    best = rows[: math.ceil(len(rows) / 4)]
    if int(m["count"]) != len(best):
        return False
    for text, group in ((m["mine"], best), (m["tried"], study.results.ended)):
        for name, low, high in re.findall(r"(\w+) from ([\d.e+-]+) to ([\d.e+-]+)", text):
            values = [getattr(row.config, name) for row in group]
            if (low, high) != (f"{min(values):.2g}", f"{max(values):.2g}"):
                return False
    return True


def edge(study: Evidence, m: re.Match[str]) -> bool:
    low, high = {"beta_norm": (1e-3, 10.0), "lr": (1e-4, 1e-1)}[m["name"]]
    value = getattr(ranked(study)[0].config, m["name"])
    place = math.log(value / low) / math.log(high / low)
    return (place <= 0.05 and float(m["bound"]) == low) or (
        place >= 0.95 and float(m["bound"]) == high
    )


def constant(study: Evidence, m: re.Match[str]) -> bool:
    first = ranked(study)[0]
    known = [row for row in ranked(study) if row.config.known_good]
    if m["behind"] is None:
        return first.config.known_good == "optimal sigma at beta 1"
    gap = known[0].values[0] - first.values[0]
    return gap > 0 and m["behind"] == f"{gap:.2g}"


def ended(study: Evidence, m: re.Match[str]) -> bool:
    rows = study.results.rows
    counts = {kind.value: sum(row.kind == kind.value for row in rows) for kind in Kind}
    told = {name: int(count) for count, name in re.findall(r"(\d+) ([a-z ]+)", m["others"] or "")}
    others = {kind: count for kind, count in counts.items() if count and kind != "healthy"}
    done = sum(bool(row.values) for row in rows)
    return (int(m["done"]), int(m["all"]), told) == (done, len(rows), others)


def region(study: Evidence, m: re.Match[str]) -> bool:
    kinds = m["kinds"].split(" or ")
    mine = [row for row in study.results.rows if row.kind in kinds]
    others = [row for row in study.results.rows if row.kind not in kinds]

    def holds(row: TrialRow) -> bool:
        for name, sign, value in re.findall(r"(\w+) (above|below) ([\d.e+-]+)", m["where"]):
            own = getattr(row.config, name)
            if not (own > float(value) if sign == "above" else own < float(value)):
                return False
        return True

    share = len(mine) if m["share"] == "All" else int(m["share"].split()[0])
    beside = 0 if m["beside"] == "none" else int(m["beside"])
    return (
        (share, int(m["total"])) == (sum(map(holds, mine)), len(mine))
        and (beside, int(m["rest"])) == (sum(map(holds, others)), len(others))
        and len(re.findall("above|below", m["where"])) == 1 + m["where"].count(" and ")
    )


def spared(study: Evidence, m: re.Match[str]) -> bool:
    planned = 20 * len(study.results.rows)
    left = planned - sum(row.epoch for row in study.results.rows)
    told = (m["spared"].replace(",", ""), m["planned"].replace(",", ""), m["share"])
    return told == (str(left), str(planned), f"{left / planned:.0%}")


def nothing(study: Evidence, m: re.Match[str]) -> bool:
    rows = study.results.rows
    lowest = min(row.config.beta_norm for row in rows)
    return (
        all(row.kind == "collapsed" for row in rows)
        and (m["count"], m["lowest"]) == (str(len(rows)), f"{lowest:.3g}")
        and float(m["high"]) == pytest.approx(lowest, rel=0.06)
        and float(m["low"]) < float(m["high"])
    )


def unfinished(study: Evidence, m: re.Match[str]) -> bool:
    rows, planned = study.results.rows, study.results.planned
    return (m["ended"], m["planned"], m["going"]) == (str(len(rows)), str(planned), "0") and (
        len(rows) < planned
    )


def moves(study: Evidence, m: re.Match[str]) -> bool:
    return (m["moved"], m["margin"]) == (f"{jitter(study):.2g}", f"{margin(study):.2g}")


FORMS: dict[str, Callable[[Evidence, re.Match[str]], bool]] = {
    r"Trial (?P<trial>\d+) is best: bits per dim (?P<value>\S+), (?P<ahead>\S+) ahead of trial "
    r"(?P<other>\d+)\. (?P<setting>.+); epoch 19 of 20\.": best_is,
    r"(?P<who>Trials [\d, and]+|\d+ trials) cannot be told apart: bits per dim from (?P<low>\S+) "
    r"to (?P<high>\S+)\. The lowest is trial (?P<lowest>\d+): (?P<setting>.+)\.": (
        cannot_be_told_apart
    ),
    r"The decoders? (?:(?P<one>\S+) is best|(?P<several>.+) do equally well at their best)\."
    r"(?: The best of the others: (?P<others>.+)\.)?": decoders,
    r"(?:The samples of trial (?P<too>\d+) are the nearest to real ones, too \((?P<too_at>\S+)\)\."
    r"|If samples are what you want, look at trial (?P<other>\d+)\. Its samples lie (?P<at>\S+) "
    r"from real ones, those of trial (?P<mine>\d+) (?P<mine_at>[\d.e+]+)\.)"
    r"(?: Rank correlation of bits per dim and that distance: .+)?": samples,
    r"The best (?P<count>\d+) have (?P<mine>.+)\. Tried were (?P<tried>.+)\.": narrow,
    r"The best (?P<name>\w+) lies at the edge of its range \((?P<bound>\S+)\)\. What is beyond "
    r"was not tried; move the bound, under a new name of the study\.": edge,
    r"(?:The best was known before the search: optimal sigma at beta 1\.|What was "
    r"known before the search, and was tried first, is behind the best: optimal sigma at beta 1 "
    r"\+(?P<behind>\S+)\.)": constant,
    r"(?P<done>\d+) of (?P<all>\d+) trials ran to the end\.(?: The others: (?P<others>.+)\.)?": (
        ended
    ),
    r"(?P<share>All|\d+ of) (?P<total>\d+) (?P<kinds>.+) trials had (?P<where>.+) "
    r"\((?P<beside>none|\d+) of (?P<rest>\d+) others did\)\.": region,
    r"Stopping early spared (?P<spared>\S+) of (?P<planned>\S+) epochs \((?P<share>\d+%)\)\.": (
        spared
    ),
    r"No trial finished healthy\. All (?P<count>\d+) trials collapsed, down to the lowest "
    r"beta_norm that was tried: (?P<lowest>\S+) .+ Lower the bounds, for example `beta_norm: "
    r"\{log_uniform: \[(?P<low>\S+), (?P<high>\S+)\]\}`, under a new name of the study\.": nothing,
    r"This is how it stands: (?P<ended>\d+) of (?P<planned>\d+) trials have ended\. Running: "
    r"(?P<going>\d+)\.": unfinished,
    r"One seed was run of each trial: differences between the best may be chance\.": (
        lambda study, _: bool(ranked(study)) and not study.results.repeats
    ),
    r"From one epoch to the next a trained trial's bits per dim moves by ±(?P<moved>\S+); "
    r"differences below (?P<margin>\S+) are called a tie\.": moves,
    r"It scores how well examples are told, not how samples look\.": (
        lambda study, _: study.results.objective == ("bits_per_dim",)
    ),
    r"Trials that were stopped early might have become better, had they gone on\.": (
        lambda study, _: any(not row.finished for row in study.results.rows)
    ),
}
"""Every form that a sentence about such a study may have, and what must be true of the study."""


def sentences(study: Evidence) -> list[str]:
    return [*map(str, findings(study)), *doubts(study)]


@pytest.mark.parametrize("name", STUDIES)
def test_every_sentence_is_true_of_the_study(name: str) -> None:
    study = STUDIES[name]
    for sentence in sentences(study):
        forms = [m for form in FORMS if (m := re.fullmatch(form, sentence))]
        assert len(forms) == 1, f"no form, or several, for: {sentence}"
        assert FORMS[forms[0].re.pattern](study, forms[0]), sentence
        ranks = re.search(r": (?P<rank>[+-][\d.]+) over (?P<count>\d+) trials\.", sentence)
        assert ranks is None or correlation(study, ranks), sentence


def test_every_form_is_said_of_some_study() -> None:
    every = [sentence for study in STUDIES.values() for sentence in sentences(study)]
    unsaid = [form for form in FORMS if not any(re.fullmatch(form, one) for one in every)]
    assert not unsaid
    assert any("Rank correlation" in one for one in every)


@pytest.mark.parametrize("name", [name for name in STUDIES if name.startswith("all")])
def test_study_that_all_collapsed_claims_no_best(name: str) -> None:
    assert not any(re.search(r"\bbest\b|\bwinner\b", one) for one in sentences(STUDIES[name]))
