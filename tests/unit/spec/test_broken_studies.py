"""Every broken study ends with exit code 2 and one screen that shows the fault and the remedy."""

import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tune_vae import cli

FOLDER = Path(__file__).parents[2] / "broken_studies"
SCREEN_LINES = 24
SCREEN_COLUMNS = 200
NOWHERE = 0


@dataclass(frozen=True)
class Fault:
    """What must be said of a broken study.

    Arguments:
        file: Its name.
        line: Line that is shown, `NOWHERE` if what is wrong has no line.
        under: The text above the carets, or how it begins.
        says: What is wrong.
        remedy: What to do, or what is allowed.
    """

    file: str
    line: int
    under: str
    says: str
    remedy: str


FAULTS = [
    Fault(
        "01_unknown_key.yaml",
        9,
        "notes",
        "unknown key `notes`",
        "known: budget, conditional, data,",
    ),
    Fault("02_key_without_its_section.yaml", 9, "epochs", "unknown key `epochs`", "in `train`"),
    Fault("03_misspelt_section.yaml", 9, "budgets", "unknown key `budgets`", "mean `budget`?"),
    Fault("04_unknown_key_in_search.yaml", 8, "beta", "`beta` in `search`", "mean `beta_norm`?"),
    Fault("05_unknown_key_in_train.yaml", 10, "epoch", "`epoch` in `train`", "mean `epochs`?"),
    Fault(
        "06_unknown_key_in_health.yaml",
        10,
        "epochs_of_patience",
        "in `health`",
        "known: blind_factor,",
    ),
    Fault("07_unknown_key_in_budget.yaml", 11, "hour", "`hour` in `budget`", "mean `hours`?"),
    Fault("08_unknown_key_in_storage.yaml", 10, "tracking_uri", "in `storage`", "`tracking`?"),
    Fault("09_unknown_key_in_ray.yaml", 10, "adress", "`adress` in `ray`", "mean `address`?"),
    Fault(
        "10_unknown_argument_of_data.yaml", 3, "size", "in `digits`", "known: limit, split_seed"
    ),
    Fault("11_unknown_argument_of_network.yaml", 4, "hiden", "in `mlp`", "mean `hidden`?"),
    Fault(
        "12_unknown_argument_of_likelihood.yaml",
        9,
        "link",
        "in `continuous_bernoulli`",
        "it takes no arguments",
    ),
    Fault("13_unknown_argument_of_sigma.yaml", 9, "sigma", "in `optimal`", "known: decay"),
    Fault("14_unknown_argument_of_schedule.yaml", 12, "warm_up", "in `linear`", "`warmup`?"),
    Fault("15_misspelt_likelihood.yaml", 8, "gausian", "unknown likelihood", "`gaussian`?"),
    Fault("16_misspelt_schedule.yaml", 9, "cyclic", "unknown schedule", "mean `cyclical`?"),
    Fault("17_unknown_sigma.yaml", 9, "loud", "unknown sigma `loud`", "known: fixed, optimal,"),
    Fault("18_misspelt_network.yaml", 4, "CNN", "unknown network `CNN`", "known: conv, "),
    Fault("19_unknown_data.yaml", 3, "moonlight", "unknown dataset", "known: "),
    Fault("20_epochs_in_words.yaml", 10, "ten", "`train.epochs`", "a whole number, got `ten`"),
    Fault("21_half_a_trial.yaml", 9, "3.5", "`budget.trials`", "a whole number, got `3.5`"),
    Fault("22_latents_with_a_unit.yaml", 5, '"8x"', "`latent_dim`", "a whole number, got `8x`"),
    Fault("23_yes_for_a_number.yaml", 9, "y", "`yes` is ambiguous", "or put it in quotes"),
    Fault("24_low_above_high.yaml", 7, "[10, 1.0e-3]", "10 is not below high 0.001", "swap them"),
    Fault(
        "25_low_equals_high.yaml",
        9,
        "[0.001, 0.001]",
        "is not below high",
        "give the value itself",
    ),
    Fault("26_log_from_zero.yaml", 7, "[0, 10]", "low 0 must be above 0", "or `uniform`"),
    Fault("27_log_from_below_zero.yaml", 5, "[-4, 16]", "low -4 must be above 0", "or `int`"),
    Fault("28_negative_beta_norm.yaml", 7, "{uniform:", "beta_norm` must be at least 0", "-0.1"),
    Fault("29_bound_not_a_number.yaml", 7, "[.nan, 10]", "got `[.nan, 10]`", "two numbers"),
    Fault("30_bound_infinite.yaml", 7, "[1.0e-3, .inf]", "got `[0.001, .inf]`", "two numbers"),
    Fault(
        "31_three_bounds.yaml", 9, "[1.0e-4,", "`log_uniform` must be", "two numbers [low, high]"
    ),
    Fault("32_real_range_of_whole_number.yaml", 5, "uniform", "takes whole numbers", "use `int`"),
    Fault("33_misspelt_range.yaml", 7, "loguniform", "unknown kind of search", "`log_uniform`?"),
    Fault("34_range_of_names.yaml", 8, "{uniform:", "a likelihood has a name", "use `choice`"),
    Fault("35_empty_choice.yaml", 8, "[]", "must be a list", "at least one option, got `[]`"),
    Fault(
        "36_option_twice.yaml", 8, "gaussian", "`gaussian` stands twice", "name each option once"
    ),
    Fault("37_argument_out_of_range.yaml", 9, "{uniform:", "got 2.0", "above 0 and at most 1"),
    Fault("38_no_data.yaml", NOWHERE, "", "`data` is missing", "write `data: digits`"),
    Fault("39_nothing_searched.yaml", NOWHERE, "", "`search` is missing", "write `search: {"),
    Fault("40_no_likelihood.yaml", 6, "search", "likelihood` is missing", "write `likelihood: {"),
    Fault("41_empty.yaml", NOWHERE, "", "41_empty.yaml is empty", "copy studies/digits.yaml"),
    Fault("42_only_comments.yaml", NOWHERE, "", "is empty", "copy studies/digits.yaml"),
    Fault("43_list.yaml", 1, "-", "a mapping of keys to values", "begin with `study:"),
    Fault("44_scalar.yaml", 1, "digits", "to values, got `digits`", "begin with `study:"),
    Fault("45_tab.yaml", 4, " ", "not YAML: found character '\\t'", "indent with spaces"),
    Fault("46_broken_indentation.yaml", 5, "b", "not YAML: expected <block", "the same column"),
    Fault("47_unclosed_bracket.yaml", 3, "}", "not YAML: expected ',' or ']'", "is not closed"),
    Fault("48_key_twice.yaml", 9, "latent_dim", "duplicate key", "first given in line 5"),
    Fault("49_nested_key_twice.yaml", 12, "epochs", "duplicate key", "first given in line 10"),
    Fault("50_aliases_that_multiply.yaml", 2, "l", "10,000 values", "more than 10,000"),
    Fault("51_deep_nesting.yaml", 2, "[", "levels of nesting", "more than 40 levels"),
    Fault(
        "52_escaping_name.yaml", 2, "../../elsewhere", "`study` must be", "letters, digits, `-`"
    ),
    Fault(
        "53_python_object.yaml", 3, "!", "`!!python/object/apply:os.system`", "plain values only"
    ),
    Fault(
        "54_several_documents.yaml", 9, "-", "a single document", "remove what begins with `---`"
    ),
    Fault("55_unknown_sampler.yaml", 9, "TPSampler", "unknown sampler", "mean `TPESampler`?"),
    Fault("56_wrong_argument_of_sampler.yaml", 9, "{TPES", "TPESampler", "'startup'"),
    Fault("89_function_as_sampler.yaml", 9, "{", "os:system", "not a subclass of optuna"),
    Fault("57_unknown_pruner.yaml", 9, "Secateurs", "unknown pruner", "MedianPruner, NopPruner"),
    Fault("58_wrong_argument_of_pruner.yaml", 9, "pruner", "MedianPruner", "cannot be negative"),
    Fault("59_batch_larger_than_data.yaml", 10, "5000", "a batch of 5,000", "at most 1,297"),
    Fault("60_network_too_deep.yaml", 4, "{conv:", "images of 1×8×8", "Name fewer channels"),
    Fault("61_bernoulli_on_grey.yaml", 9, "bits_per_dim", "cannot rank `bernoulli`", "calibrated"),
    Fault(
        "62_neg_elbo_of_two_likelihoods.yaml",
        9,
        "neg_elbo",
        "cannot rank `continuous_bernoulli` and `gaussian`",
        "use `objective: bits_per_dim`",
    ),
    Fault("63_sigma_and_beta_norm.yaml", 9, "{fixed:", "are one knob", "search one of them"),
    Fault("64_several_fixed_sigmas.yaml", 9, "{choice:", "are one knob", "search one of them"),
    Fault("65_unknown_objective.yaml", 9, "bits_per_dimension", "objective", "`bits_per_dim`?"),
    Fault("66_three_objectives.yaml", 9, "[rate_nats,", "one name or two", "known: bits_per_dim,"),
    Fault(
        "67_section_of_one_value.yaml", 9, "10", "`train` must hold", "keys and values, got `10`"
    ),
    Fault("68_number_too_long.yaml", 7, "1000", "`search.beta_norm`", "must be at most 1e+12"),
    Fault("69_alias_of_itself.yaml", 2, "&", "levels of nesting", "more than 40 levels"),
    Fault("70_import_path_to_nothing.yaml", 4, "my_nets:WideResNet", "cannot import", "installed"),
    Fault(
        "71_import_path_to_something_else.yaml",
        4,
        "collections:OrderedDict",
        "is not a network",
        "tune_vae.science.networks.Network",
    ),
    Fault("72_list_for_a_key.yaml", 2, "[", "a key must be", "plain text"),
    Fault("73_long_value.yaml", 5, "xxx", "got `xxx", "must be a whole number"),
    Fault("74_negative_health.yaml", 10, "-0.1", "rate_nats must be above 0", "got -0.1"),
    Fault("75_forgotten_value.yaml", 5, "latent_dim", "is empty", "write `latent_dim: 16`"),
    Fault("76_data_searched.yaml", 3, "{choice:", "is the same for all trials", "name one"),
    Fault("77_real_range_of_whole_argument.yaml", 9, "{uniform:", "a whole number", "is `int`"),
    Fault("78_misspelt_choice.yaml", 8, "choise", "unknown kind of search", "mean `choice`?"),
    Fault("79_escape_sequence.yaml", 2, '"\\e[2Jgone"', "got `", "a name of letters"),
    Fault("80_colon_in_a_value.yaml", 2, ":", "not YAML: mapping values", "quote a value"),
    Fault("81_unknown_alias.yaml", 7, "*", "not YAML", "undefined alias 'usual'"),
    Fault("82_negative_seed.yaml", 10, "-1", "`train.seed`", "greater than or equal to 0"),
    Fault("83_import_path_with_a_space.yaml", 4, '"my nets', "no import path", "`module:Class`"),
    Fault(
        "84_objective_as_mapping.yaml", 9, "{minimize: mse}", "unknown objective", "known: bits"
    ),
    Fault("85_storage_without_quotes.yaml", 10, "7", "must be text, got `7`", "put it in quotes"),
    Fault("86_arguments_as_list.yaml", 4, "[64, 64]", "must be a mapping", "`mlp: {argument:"),
    Fault("87_two_names_for_one.yaml", 4, "{mlp:", "expected a name", "or one name with its"),
    Fault("88_sampler_with_plain_argument.yaml", 9, "5", "mapping, got `5`", "`TPESampler: {"),
    Fault(
        "91_pruner_of_one_value_for_two.yaml", 10, "MedianPruner", "two objectives", "ParetoPruner"
    ),
    Fault(
        "92_pareto_pruner_for_one_value.yaml", 9, "ParetoPruner", "has one", "SuccessiveHalving"
    ),
    Fault("93_known_good_in_words.yaml", 9, "mostly", "`known_good` must be true", "literature"),
    Fault("94_no_patience.yaml", 9, "0", "`budget.patience`", "greater than or equal to 1"),
    Fault("95_password_in_a_url.yaml", 10, "ledger", "holds a password", "set TUNE_VAE_LEDGER"),
]

MANY = [
    (2, "`study` must be a name", "got `many/problems`"),
    (3, "unknown dataset `digitz`", "did you mean `digits`?"),
    (4, "unknown key `hiden` in `mlp`", "did you mean `hidden`?"),
    (5, "`latent_dim` must be at least 1", "got 0"),
    (6, "`search.likelihood` is missing", "write `likelihood:"),
    (7, "`log_uniform`: low 0 must be above 0", "use a small positive bound"),
    (11, "warmup must be above 0 and at most 1", "got 2.0"),
    (12, "unknown schedule `cyclic`", "did you mean `cyclical`?"),
    (13, "`search.lr` must be a number", "got `fast`"),
    (14, "unknown key `momentum` in `search`", "known: beta_norm,"),
    (15, "`train.epochs` must be a whole number", "got `ten`"),
    (17, "`budget.trials` should be greater than or equal to 1", "got `0`"),
    (18, "duplicate key `trials`", "first given in line 17"),
    (19, "unknown key `lr`", "it belongs in `search`"),
]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: object
    out: str
    err: str


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def check(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Check":
    return Check(empty_folder, monkeypatch, capsys)


@dataclass(frozen=True)
class Check:
    """`tune-vae check` in this process, from a folder in which nothing may be left behind."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, file: Path | str) -> Outcome:
        self.monkeypatch.setattr(sys, "argv", ["tune-vae", "check", str(file)])
        self.monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert list(self.folder.iterdir()) == []
        return Outcome(ended.value.code, *self.capsys.readouterr())


def assert_one_screen(outcome: Outcome, file: Path | str) -> None:
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    lines = outcome.err.replace(str(file), Path(file).name).splitlines()
    assert len(lines) <= SCREEN_LINES
    assert max(map(len, lines)) <= SCREEN_COLUMNS
    assert all(c.isprintable() for line in lines for c in line)


def unwrapped(screen: str) -> str:
    """The same with the parts of each long tip in one line."""
    return re.sub(r"\n +\| (?=\S)", " ", screen)


def underlined(screen: str) -> str:
    """The text above the first carets."""
    lines = screen.splitlines()
    for above, below in pairwise(lines):
        carets = re.match(r" +\| +(\^+)", below)
        if carets:
            return above[slice(*carets.span(1))]
    return ""


def test_every_broken_study_has_its_expected_message() -> None:
    stated = [fault.file for fault in FAULTS]
    assert sorted([*stated, "90_many_problems.yaml"]) == sorted(f.name for f in FOLDER.iterdir())


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.file for fault in FAULTS])
def test_broken_study_is_refused_with_its_place_and_a_remedy(fault: Fault, check: Check) -> None:
    outcome = check(FOLDER / fault.file)
    assert_one_screen(outcome, FOLDER / fault.file)
    assert outcome.err.count("error: ") == 1
    assert fault.says in outcome.err
    assert fault.remedy in unwrapped(outcome.err)
    assert fault.file in outcome.err
    if fault.line == NOWHERE:
        assert "-->" not in outcome.err
    else:
        assert f"--> {FOLDER / fault.file}:{fault.line}:" in outcome.err
        assert f"1 problem in {FOLDER / fault.file}; nothing was started" in outcome.err
    assert underlined(outcome.err).startswith(fault.under)


def test_many_problems_are_all_shown_at_once_in_the_order_of_the_file(check: Check) -> None:
    file = FOLDER / "90_many_problems.yaml"
    outcome = check(file)
    assert outcome.code == 2
    blocks = outcome.err.split("error: ")[1:]
    assert len(blocks) == len(MANY)
    for block, (line, says, remedy) in zip(blocks, MANY, strict=True):
        assert f"--> {file}:{line}:" in block
        assert says in block
        assert remedy in block
    assert f"{len(MANY)} problems in {file}; nothing was started." in outcome.err


def test_flood_of_problems_is_cut_and_counted(check: Check, tmp_path: Path) -> None:
    file = tmp_path / "flood.yaml"
    file.write_text("".join(f"key{number}: {number}\n" for number in range(2000)))
    outcome = check(file)
    assert outcome.err.count("error: ") == 20
    assert "2,005 problems in" in outcome.err
    assert "… and 1,985 more." in outcome.err


@pytest.mark.parametrize(
    ("name", "content", "says", "remedy"),
    [
        ("junk.yaml", bytes(range(256)) * 8, "junk.yaml is not text: byte 128", "saved as UTF-8"),
        ("utf16.yaml", "study: x\n".encode("utf-16"), "is not text: byte 0", "saved as UTF-8"),
        ("nul.yaml", b"study: \0\n", "not YAML: unacceptable character #x0000", "not allowed"),
        ("escape.yaml", b"study: \x1b[2J\n", "unacceptable character #x001b", "not allowed"),
        ("huge.yaml", b"# " * 2_000_000, "more than 100,000 bytes", "is this the right file?"),
        ("deep.yaml", b"a: " + b"[" * 50_000, "more than 40 levels of nesting", "40 levels"),
        ("model.pt", b"PK\x03\x04\xff\xfe\x00", "model.pt is not text", "a study file is YAML"),
    ],
)
def test_file_that_is_no_study_at_all_is_refused(
    name: str, content: bytes, says: str, remedy: str, check: Check, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    outcome = check(file)
    assert_one_screen(outcome, file)
    assert says in outcome.err
    assert remedy in outcome.err


def test_folder_in_the_place_of_a_file_is_refused(check: Check, tmp_path: Path) -> None:
    outcome = check(tmp_path)
    assert_one_screen(outcome, tmp_path)
    assert f"{tmp_path} is a folder" in outcome.err
    assert "name a study file, such as studies/digits.yaml" in outcome.err


def test_missing_file_names_the_nearest_one(check: Check, tmp_path: Path) -> None:
    (tmp_path / "celeba.yaml").write_text("study: celeba\n")
    outcome = check(tmp_path / "celebra.yml")
    assert_one_screen(outcome, tmp_path / "celebra.yml")
    assert f"no such study file: {tmp_path / 'celebra.yml'}" in outcome.err
    assert f"did you mean {tmp_path / 'celeba.yaml'}?" in outcome.err


def test_missing_folder_is_named(check: Check, tmp_path: Path) -> None:
    outcome = check(tmp_path / "nowhere" / "digits.yaml")
    assert f"the folder {tmp_path / 'nowhere'} does not exist either" in outcome.err


def test_file_below_a_file_cannot_be_read(check: Check, tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text("study: digits\n")
    outcome = check(tmp_path / "digits.yaml" / "study")
    assert outcome.code == 2
    assert "Not a directory" in outcome.err


def test_default_objective_that_cannot_rank_points_at_the_likelihood(
    check: Check, tmp_path: Path
) -> None:
    file = tmp_path / "unstated.yaml"
    text = (FOLDER / "61_bernoulli_on_grey.yaml").read_text()
    file.write_text(text.replace("objective: bits_per_dim\n", ""))
    outcome = check(file)
    assert f"--> {file}:8:" in outcome.err
    assert underlined(outcome.err) == "{choice: [bernoulli, gaussian]}"


@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS if fault.file[:2] in {"14", "53", "62"}],
    ids=lambda fault: fault.file,
)
def test_installed_command_says_the_same_and_leaves_nothing(
    fault: Fault, empty_folder: Path
) -> None:
    file = FOLDER / fault.file
    command = Path(sys.executable).with_name("tune-vae")
    run = subprocess.run(
        [command, "check", file], capture_output=True, text=True, check=False, timeout=120
    )
    assert_one_screen(Outcome(run.returncode, run.stdout, run.stderr), file)
    assert f"--> {file}:{fault.line}:" in run.stderr
    assert fault.says in run.stderr
    assert fault.remedy in unwrapped(run.stderr)
    assert list(empty_folder.iterdir()) == []
