"""The study file as a whole."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.unit.spec.choosers import PlannedChooser, RandomChooser
from tests.unit.spec.studies import WIDE, study, text
from tune_vae.data.datasets.digits import Digits
from tune_vae.errors import Problem, StudyFileError
from tune_vae.science.health import Limits
from tune_vae.spec.space import Fixed, Range
from tune_vae.spec.study import (
    GRAPH_KNOBS,
    Budget,
    RayOptions,
    Storage,
    StudySpec,
    Training,
    has_scale,
)

STUDIES = Path(__file__).parents[3] / "studies"


def problems_of(source: str) -> list[Problem]:
    with pytest.raises(StudyFileError) as refused:
        StudySpec.parse(source)
    return refused.value.problems


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.yaml")), ids=lambda file: file.name)
def test_every_study_that_comes_with_the_project_is_valid(file: Path) -> None:
    spec = StudySpec.load(file)
    assert spec.name == file.stem
    assert spec.file == str(file)
    assert spec.text == file.read_text()


def test_what_a_study_does_not_say_has_a_default() -> None:
    spec = study()
    assert spec.train == Training()
    assert spec.budget == Budget()
    assert spec.storage == Storage()
    assert spec.ray == RayOptions()
    assert spec.health == Limits()
    assert spec.objective == ("bits_per_dim",)
    assert spec.sampler == {"TPESampler": {}}
    assert spec.pruner == {"SuccessiveHalvingPruner": {"min_resource": 5, "reduction_factor": 2}}
    assert spec.dataset() == Digits()
    assert spec.knobs["lr"] == Fixed(1e-3)
    assert spec.knobs["batch_size"] == Fixed(128)


def test_empty_section_is_a_section_of_defaults() -> None:
    empty = {"train", "health", "budget", "storage", "ray", "objective", "sampler", "pruner"}
    assert study(**dict.fromkeys(empty, "")) == study()


def test_what_a_study_says_is_taken() -> None:
    spec = study(
        data="{digits: {split_seed: 3}}",
        objective="[rate_nats, mse]",
        train="{epochs: 7, pack: 4, seed: 11, rollbacks: 3, batch_size: 32}",
        health="{rate_nats: 0.5, steps: 10}",
        budget="{trials: 5, hours: 1.5, gpus_per_trial: 0, concurrency: 2, retries: 0}",
        sampler="{QMCSampler: {scramble: true}}",
        pruner="NopPruner",
        storage="{ledger: 'sqlite:///a.db'}",
        ray="{address: auto}",
    )
    assert spec.dataset() == Digits(split_seed=3)
    assert spec.objective == ("rate_nats", "mse")
    assert spec.train == Training(epochs=7, pack=4, seed=11, rollbacks=3)
    assert spec.knobs["batch_size"] == Fixed(32)
    assert spec.health == replace(Limits(), rate_nats=0.5, steps=10)
    assert spec.budget == Budget(trials=5, hours=1.5, gpus_per_trial=0, concurrency=2, retries=0)
    assert spec.sampler == {"QMCSampler": {"scramble": True}}
    assert spec.pruner == {"NopPruner": {}}
    assert spec.storage == Storage(ledger="sqlite:///a.db")
    assert spec.ray.address == "auto"


@pytest.mark.parametrize("epochs", [1, 3, 4, 100])
def test_default_pruner_lets_the_first_epochs_pass(epochs: int) -> None:
    pruner = study(train=f"{{epochs: {epochs}}}").pruner["SuccessiveHalvingPruner"]
    assert epochs / 8 <= pruner["min_resource"] < epochs / 8 + 1
    two = study(train=f"{{epochs: {epochs}}}", objective="[rate_nats, mse]").pruner
    assert list(two) == ["ParetoPruner"]
    assert epochs / 16 <= two["ParetoPruner"]["min_resource"] < epochs / 16 + 1


@pytest.mark.parametrize("name", ["a", "7", "Celeba-64_v2.1", "x" * 64, "2024-01-01"])
def test_name_of_letters_digits_and_marks_is_taken(name: str) -> None:
    assert study(study=name).name == name


@pytest.mark.parametrize(
    "name",
    ["..", ".hidden", "-x", "a/b", "a\\\\b", "a b", "é", "x" * 65, "true", "1.5", "[a]", "'*'"],
)
def test_name_that_is_no_plain_file_name_is_refused(name: str) -> None:
    (problem,) = problems_of(text(study=f'"{name}"' if "\\" in name else name))
    assert problem.path == ("study",)
    assert "`study` must be a name" in problem.message


@pytest.mark.parametrize("key", ["study", "data", "network", "latent_dim", "search"])
def test_key_that_is_absent_or_empty_is_told_with_an_example(key: str) -> None:
    absent = "".join(line for line in text().splitlines(True) if not line.startswith(key))
    (missing,) = problems_of(absent)
    assert (missing.message, missing.line) == (f"`{key}` is missing", 0)
    (empty,) = problems_of(text(**{key: ""}))
    assert empty.message == f"`{key}` is empty"
    assert empty.line > 0
    assert empty.tip == missing.tip
    example = missing.tip.removeprefix("write `").removesuffix("`")
    assert StudySpec.parse(absent + example + "\n").knobs


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("epochs", "it belongs in `train`"),
        ("beta_norm", "it belongs in `search`"),
        ("trials", "it belongs in `budget`"),
        ("batch_size", "it belongs in `train`"),
        ("checkpoints", "it belongs in `storage`"),
        ("rate_nats", "it belongs in `health`"),
        ("address", "it belongs in `ray`"),
    ],
)
def test_key_of_a_section_that_stands_elsewhere_is_sent_home(key: str, place: str) -> None:
    (top,) = problems_of(text(**{key: "1"}))
    assert top.tip == place
    home = place.split("`")[1]
    other = "ray" if home != "ray" else "budget"
    (astray,) = problems_of(text(**{other: f"{{{key}: 1}}"}))
    assert (astray.message, astray.tip) == (f"unknown key `{key}` in `{other}`", place)


def test_top_level_key_in_a_section_is_sent_home() -> None:
    (problem,) = problems_of(text(train="{latent_dim: 4}"))
    assert problem.tip == "it belongs at the top level"


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("train", "epochs", "0", "greater than or equal to 1"),
        ("train", "epochs", "1.0", "must be a whole number, got `1.0`"),
        ("train", "epochs", "true", "must be a whole number, got `true`"),
        ("train", "epochs", "'9'", "must be a whole number, got `'9'`"),
        ("train", "pack", "0", "at least one trial, or as many as `auto`"),
        ("train", "rollbacks", "-1", "greater than or equal to 0"),
        ("train", "precision", "float16", "'float32' or 'bfloat16'"),
        ("train", "seed", str(2**63), "less than 9223372036854775808"),
        ("budget", "trials", ".nan", "must be a whole number, got `.nan`"),
        ("budget", "seeds", "0", "greater than or equal to 1"),
        ("budget", "finalists", "0", "greater than or equal to 1"),
        ("budget", "hours", "0", "greater than 0"),
        ("budget", "hours", ".nan", "greater than 0"),
        ("budget", "hours", "1:30", "must be a number, got `1:30`"),
        ("budget", "gpus_per_trial", "-1", "greater than or equal to 0"),
        ("budget", "cpus_per_trial", ".inf", "less than or equal to 1024"),
        ("budget", "concurrency", "0", "greater than or equal to 1"),
        ("budget", "retries", "-1", "greater than or equal to 0"),
        ("health", "steps", "0", "steps must be above 0"),
        ("health", "blind_factor", "1", "blind_factor must be above 1"),
        ("health", "settled_log_sigma", "-1", "settled_log_sigma must not be negative"),
        ("health", "steps", "many", "must be a whole number, got `many`"),
        ("storage", "ledger", "[a]", "must be text, got `[a]`"),
        ("ray", "address", "8265", "must be text, got `8265`"),
    ],
)
def test_value_of_a_section_is_of_its_type_and_range(
    section: str, key: str, value: str, says: str
) -> None:
    (problem,) = problems_of(text(**{section: f"{{{key}: {value}}}"}))
    assert says in problem.message
    assert problem.path == (section, key)
    assert problem.column == len(f"{section}: {{{key}: ") + 1


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        ("[]", "one name or two different ones"),
        ("[mse, mse]", "one name or two different ones"),
        ("[mse, rate_nats, neg_elbo]", "one name or two different ones"),
        ("elbo", "unknown objective `elbo`"),
        ("[mse, 3]", "unknown objective `3`"),
        ("[[mse]]", "unknown objective `[mse]`"),
        ("{mse: 1}", "unknown objective `{mse: 1}`"),
    ],
)
def test_objective_is_one_known_name_or_two(objective: str, says: str) -> None:
    problem = problems_of(text(objective=objective))[0]
    assert says in problem.message
    assert problem.line == 6


def test_draw_gives_every_knob_a_value() -> None:
    spec = study()
    drawn = spec.draw(RandomChooser())
    assert drawn.keys() == spec.knobs.keys()
    assert set(GRAPH_KNOBS) < drawn.keys()


def test_sigma_is_drawn_only_for_likelihoods_with_a_scale() -> None:
    spec = study(
        search="{beta_norm: 1, likelihood: {choice: [bernoulli, gaussian]}, "
        "sigma: {choice: [shared, optimal]}}"
    )
    scaleless = PlannedChooser({"likelihood": "bernoulli"})
    assert spec.draw(scaleless)["sigma"] is None
    assert scaleless.asked == ["likelihood"]
    scaled = PlannedChooser({"likelihood": "gaussian", "sigma": "shared"})
    assert spec.draw(scaled)["sigma"] == {"shared": {}}
    assert scaled.asked == ["likelihood", "sigma"]


def test_gaussian_has_a_scale_and_the_bernoullis_have_none() -> None:
    assert has_scale("gaussian")
    assert has_scale({"gaussian": {"link": "identity"}})
    assert not has_scale("bernoulli")
    assert not has_scale({"continuous_bernoulli": {}})


@pytest.mark.parametrize("seed", range(30))
def test_no_name_is_asked_with_two_meanings_in_the_widest_space(seed: int) -> None:
    asked = RandomChooser(0)
    spec = StudySpec.parse(WIDE)
    for draw in range(10):
        chooser = RandomChooser(100 * seed + draw, asked.asked)
        assert spec.draw(chooser).keys() == spec.knobs.keys()


def test_knobs_can_be_given_as_values() -> None:
    spec = study()
    knobs = spec.with_values({"beta_norm": 0.5, "lr": {"uniform": [0.1, 0.2]}})
    assert knobs["beta_norm"] == Fixed(0.5)
    assert knobs["lr"] == Range(0.1, 0.2)
    assert {n: k for n, k in knobs.items() if n not in {"beta_norm", "lr"}} == {
        n: k for n, k in spec.knobs.items() if n not in {"beta_norm", "lr"}
    }
    assert spec.knobs["beta_norm"] == Range(1e-3, 10.0, log=True)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"beta": 1.0}, "unknown key `beta`"),
        ({"epochs": 3}, "unknown key `epochs`"),
        ({"beta_norm": -1}, "`beta_norm` must be at least 0, got -1"),
        ({"likelihood": "gausian"}, "unknown likelihood `gausian`"),
        ({"sigma": None}, "expected a name"),
    ],
)
def test_value_that_is_not_allowed_is_refused_without_a_place_in_the_file(
    values: dict[str, object], says: str
) -> None:
    spec = study()
    with pytest.raises(StudyFileError) as refused:
        spec.with_values(values)
    (problem,) = refused.value.problems
    assert says in problem.message
    assert problem.line == 0
    spec.refuse([])


def test_refusal_places_the_problems_in_the_file() -> None:
    spec = study()
    with pytest.raises(StudyFileError) as refused:
        spec.refuse([Problem("not these", ("network", "mlp")), Problem("nor this", ("study",))])
    assert [(p.message, p.line) for p in refused.value.problems] == [
        ("nor this", 1),
        ("not these", 3),
    ]
    spec.refuse([])


CHANGES_SPACE = {
    "data": "{digits: {split_seed: 1}}",
    "network": "{mlp: {hidden: [32]}}",
    "latent_dim": "5",
    "objective": "mse",
    "search": "{beta_norm: {log_uniform: [1e-3, 11]}, likelihood: gaussian}",
    "train": "{epochs: 41}",
}
KEEPS_SPACE = {
    "study": "other",
    "budget": "{trials: 1000, hours: 2, concurrency: 3}",
    "storage": "{ledger: 'sqlite:///elsewhere.db', checkpoints: elsewhere}",
    "ray": "{address: auto}",
    "sampler": "RandomSampler",
    "pruner": "NopPruner",
}


@pytest.mark.parametrize(("key", "value"), CHANGES_SPACE.items(), ids=CHANGES_SPACE)
def test_digest_changes_with_what_makes_trials_comparable(key: str, value: str) -> None:
    assert study(**{key: value}).space_digest() != study().space_digest()


@pytest.mark.parametrize(("key", "value"), KEEPS_SPACE.items(), ids=KEEPS_SPACE)
def test_digest_stays_when_only_budget_or_places_change(key: str, value: str) -> None:
    assert study(**{key: value}).space_digest() == study().space_digest()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("{epochs: 40}", "{epochs: 40, pack: 8}", True),
        ("{epochs: 40}", "{epochs: 40, rollbacks: 0}", True),
        ("{epochs: 40}", "{epochs: 40, precision: float32}", True),
        ("{epochs: 40}", "{epochs: 40, precision: bfloat16}", False),
        ("{seed: 1}", "{seed: 2}", False),
        ("{batch_size: 32}", "{batch_size: 64}", False),
        ("{}", "{epochs: 40, seed: 0, batch_size: 128}", True),
    ],
)
def test_digest_knows_which_part_of_the_training_counts(one: str, other: str, same: bool) -> None:
    assert (study(train=one).space_digest() == study(train=other).space_digest()) is same


def test_digest_does_not_depend_on_how_the_same_is_written() -> None:
    search = """
  likelihood: gaussian  # the same in other words
  sigma: optimal
  schedule: {constant: {}}
  lr: 0.001
  beta_norm: {log_uniform: [0.001, 10.0]}"""
    assert study(search=search).space_digest() == study().space_digest()


def test_other_repeats_leave_the_study_comparable_and_are_checked() -> None:
    spec = study(budget="{trials: 5, hours: 2}")
    sure = spec.with_seeds(4, finalists=2)
    assert sure.budget == Budget(trials=5, hours=2, seeds=4, finalists=2)
    assert sure.space_digest() == spec.space_digest()
    with pytest.raises(ValidationError):
        spec.with_seeds(0, finalists=2)


# Where a study lives


def test_environment_comes_before_the_file_and_the_file_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNE_VAE_LEDGER", "postgresql://me:hunter2@host/db")
    monkeypatch.setenv("TUNE_VAE_TRACKING", " ")
    found = study(storage="{ledger: 'sqlite:///a.db', checkpoints: there}").storage
    assert found.ledger == "postgresql://me:hunter2@host/db"
    assert found.checkpoints == "there"
    assert (found.tracking, found.artifacts) == (Storage().tracking, Storage().artifacts)
    for name in ("TRACKING", "ARTIFACTS", "CHECKPOINTS"):
        monkeypatch.setenv(f"TUNE_VAE_{name}", f"s3://{name}")
    places = study(storage="{checkpoints: there}").storage
    assert places.tracking == "s3://TRACKING"
    assert places.artifacts == "s3://ARTIFACTS"
    assert places.checkpoints == "s3://CHECKPOINTS"


def test_printed_study_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_VAE_LEDGER", "postgresql://me:hunter2@host/db")
    assert "hunter2" not in repr(study()) + str(study().storage)
    assert "postgresql://me:***@host/db" in repr(study())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@host/db",
        "postgresql://host/db?user=me&password=hunter2",
        "http://me:hunter2@host:5000",
        "s3://bucket/x?secret_key=hunter2",
    ],
)
@pytest.mark.parametrize("key", ["ledger", "tracking", "artifacts", "checkpoints"])
def test_password_in_a_study_file_is_refused_with_the_way_out(key: str, url: str) -> None:
    with pytest.raises(StudyFileError) as refused:
        study(storage=f"{{{key}: '{url}'}}")
    (problem,) = refused.value.problems
    assert problem.path == ("storage", key)
    assert "holds a password" in problem.message
    assert f"TUNE_VAE_{key.upper()}" in problem.tip
    assert "hunter2" not in f"{problem}{refused.value}"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me@host:5432/db?sslmode=require",
        "http://host:5000",
        "s3://bucket/x",
        "sqlite:///mlruns/studies.db",
    ],
)
def test_url_without_a_password_is_taken(url: str) -> None:
    assert study(storage=f"{{ledger: '{url}'}}").storage.ledger == url


def test_places_seen_from_another_folder_leave_urls_as_they_are() -> None:
    urls = Storage(
        ledger="postgresql://host/db",
        tracking="http://host:5000",
        artifacts="s3://bucket/a",
        checkpoints="s3://bucket/c",
    )
    assert urls.at(Path("/home/me")) == urls
    assert Storage().at(Path("/home/me")).checkpoints == "/home/me/mlruns/checkpoints"


@pytest.mark.parametrize(("key", "value"), CHANGES_SPACE.items(), ids=CHANGES_SPACE)
def test_content_tells_what_the_digest_knows(key: str, value: str) -> None:
    before, after = study().space_content(), study(**{key: value}).space_content()
    changed = {place for place in before | after if before.get(place) != after.get(place)}
    assert len(changed) == 1
    assert changed.pop().split(".")[0] == key


@pytest.mark.parametrize("line", ["study: tiny", 'study: "tiny"  # mine', "study:   'tiny'"])
def test_renamed_study_is_the_same_file_with_another_name(line: str) -> None:
    text = source_text().replace("study: tiny", line)
    renamed = StudySpec.parse(text).renamed("1e3")
    assert StudySpec.parse(renamed).name == "1e3"
    before, after = text.splitlines(), renamed.splitlines()
    assert [one for one, other in zip(before, after, strict=True) if one != other] == [line]
    assert ("# mine" in renamed) == ("# mine" in text)


def source_text() -> str:
    return "# The first.\n" + text()


def test_auto_bounds_are_decided_later_and_become_a_range() -> None:
    spec = study(search="{beta_norm: auto, likelihood: gaussian}")
    assert spec.undecided
    assert spec.knobs["beta_norm"].describe() == "auto"
    decided = spec.with_bounds(0.01, 2.0)
    assert not decided.undecided
    assert decided.bounds == (0.01, 2.0)
    written = study(search="{beta_norm: {log_uniform: [0.01, 2]}, likelihood: gaussian}")
    assert decided.space_digest() == written.space_digest()


@pytest.mark.parametrize("search", ["lr: auto, beta_norm: 1", "beta_norm: {choice: [auto, 1]}"])
def test_auto_stands_for_nothing_else(search: str) -> None:
    with pytest.raises(StudyFileError):
        study(search=f"{{{search}, likelihood: gaussian}}")
