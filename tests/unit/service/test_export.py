"""The folder that a trial is exported to."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch

from tests.trials import trial_config
from tune_vae import api, load_vae
from tune_vae.api.taking_home import vae_of
from tune_vae.data import Splits, Targets
from tune_vae.errors import CheckpointError, ExportError, StorageError
from tune_vae.service import export
from tune_vae.service.rows import TrialRow
from tune_vae.spec.trial import TrialConfig
from tune_vae.training import checkpoint
from tune_vae.training.trainer import build_vae

FILES = ["README.md", "config.json", "metrics.json", "model.py", "model.safetensors"]

ALONE = """
import importlib.abc, runpy, sys

# The requirements of torch's own package, and what it finds its CUDA libraries by.
ALLOWED = {
    "torch", "torchgen", "functorch", "typing_extensions", "filelock", "sympy", "mpmath",
    "networkx", "jinja2", "markupsafe", "fsspec", "triton", "nvidia", "cuda",
}
refused = set()


class Wall(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | ALLOWED:
            refused.add(top)
            raise ModuleNotFoundError(f"no {name} here", name=name)


sys.meta_path.insert(0, Wall())
given = sys.argv[1]
if given.endswith(".py"):
    module = runpy.run_path(given, run_name="__main__")
    import torch

    x = module["sample"](5, seed=3)
    told = [[4, 3, 2, 1, 0]] if module["CLASSES"] else []
    torch.save([x, *module["encode"](x, *told), module["reconstruct"](x, *told)], "answers.pt")
else:
    __import__(given)
"""


class Trained(NamedTuple):
    """A trial that has ended, with its best checkpoint."""

    row: TrialRow
    state: dict[str, Any]
    data: Splits

    def write(self, folder: Path) -> export.Exported:
        again = "tune-vae train small.yaml --trial 3"
        return export.write(folder, self.row, self.state, self.data, again=again)


def trained(config: TrialConfig, data: Splits, folder: Path) -> Trained:
    done = api.train(config, data=data, save_to=folder / "best.pt")
    row = TrialRow(
        config=config,
        state="ended",
        finished=True,
        kind=done.verdict.kind.value,
        reason=done.verdict.reason,
        values=(done.history.last.bits_per_dim,),
        best=done.history.last,
        last=done.history.last,
        epoch=config.epochs,
        appraisal={"psnr": 12.5, "probe_accuracy": 0.75},
    )
    return Trained(row, checkpoint.load(folder / "best.pt"), data)


@pytest.fixture(scope="module")
def trial(few_digits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = trial_config(3, epochs=2, prior={"mixture": {"components": 3}}, beta_norm=0.25)
    return trained(config, few_digits, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def exported(trial: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "home" / "digits"
    assert trial.write(folder) == export.Exported(folder, 3)
    return folder


def alone(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_folder_holds_what_is_needed_and_nothing_else(exported: Path) -> None:
    assert sorted(file.name for file in exported.iterdir()) == [*FILES, "samples.png"]
    assert [entry.name for entry in exported.parent.iterdir()] == [exported.name]


def test_module_works_with_torch_alone(trial: Trained, exported: Path, tmp_path: Path) -> None:
    run = alone(exported / "model.py", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    vae = vae_of(trial.row.config, trial.state)
    x, mean, log_variance, again = torch.load(tmp_path / "answers.pt", weights_only=True)
    torch.testing.assert_close(x, vae.generate(5, seed=3), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close((mean, log_variance), vae.encode(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again, vae.reconstruct(x), rtol=1e-5, atol=1e-5)
    assert (tmp_path / "samples.png").read_bytes() == (exported / "samples.png").read_bytes()
    assert sorted(file.name for file in exported.iterdir()) == [*FILES, "samples.png"]


@pytest.mark.parametrize("name", ["tune_vae", "safetensors", "numpy", "pydantic"])
def test_that_environment_has_nothing_but_torch(name: str, tmp_path: Path) -> None:
    run = alone(name, folder=tmp_path)
    assert run.returncode == 1
    assert run.stderr.strip().endswith(f"ModuleNotFoundError: no {name} here")


def test_model_of_an_export_is_that_of_the_checkpoint(trial: Trained, exported: Path) -> None:
    vae, mine = vae_of(trial.row.config, trial.state), api.load_vae(exported)
    assert not mine.training
    assert mine.state_dict().keys() == vae.state_dict().keys()
    for name, value in vae.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value), name


def test_configuration_trains_it_again(trial: Trained, exported: Path) -> None:
    text = (exported / "config.json").read_text(encoding="utf-8")
    config = TrialConfig.model_validate_json(text)
    assert config == trial.row.config
    again = api.train(config, data=trial.data).vae
    for name, value in api.load_vae(exported).state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_metrics_are_those_of_the_trial(trial: Trained, exported: Path) -> None:
    metrics = json.loads((exported / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["trial"] == 3
    assert metrics["verdict"]["kind"] == trial.row.kind
    assert metrics["verdict"]["reason"] == trial.row.reason
    assert metrics["values"] == {"bits_per_dim": trial.row.values[0]}
    assert metrics["epoch"] == 2
    assert metrics["scores"]["rate_nats"] == trial.state["reports"][-1]["rate_nats"]
    assert len(metrics["scores"]["rate_per_latent_nats"]) == 4
    assert metrics["appraisal"] == {"psnr": 12.5, "probe_accuracy": 0.75}
    assert metrics["data"] == {
        "digest": trial.data.digest(),
        "levels": 17,
        "train": 256,
        "validation": 64,
        "test": 64,
    }


def test_numbers_that_json_lacks_are_null(trial: Trained, tmp_path: Path) -> None:
    broken = {**trial.state["reports"][-1], "sigma": math.nan, "grad_norm": math.inf}
    broken["rate_per_latent_nats"] = [1.0, -math.inf]
    trial._replace(state={**trial.state, "reports": [broken]}).write(tmp_path / "home")
    scores = json.loads((tmp_path / "home" / "metrics.json").read_text())["scores"]
    assert (scores["sigma"], scores["grad_norm"]) == (None, None)
    assert scores["rate_per_latent_nats"] == [1.0, None]
    assert "`sigma`" not in (tmp_path / "home" / "README.md").read_text(encoding="utf-8")


def test_card_says_what_the_model_is(trial: Trained, exported: Path) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    report = trial.state["reports"][-1]
    for stated in (
        "# small, trial 3",
        "1×8×8 images of 17 levels",
        "gaussian·optimal",
        f"**{trial.row.kind.replace('_', ' ').capitalize()}**: {trial.row.reason}",
        f"digest `{trial.data.digest()}`",
        "256 training, 64 validation and 64 test",
        "epoch 2 of 2",
        f"| `bits_per_dim` | {report['bits_per_dim']:.4g} |",
        f"| `rate_nats` | {report['rate_nats']:.4g} |",
        "| `probe_accuracy` | 0.75 |",
        "| prior | mixture (components 3) |",
        # N = 64 values and M = 4 latents.
        "| beta_norm | 0.25 (β 4) |",
        "tune-vae train small.yaml --trial 3",
        "licence",
        "![64 samples from the prior](samples.png)",
    ):
        assert stated in card, stated
    named = [line.split("`")[1] for line in card.splitlines() if line.startswith("| `m")]
    assert {"model.py", "model.safetensors", "metrics.json", "mse"} <= set(named)
    assert "{" not in card


def test_counts_have_no_picture(trial: Trained, tmp_path: Path) -> None:
    likelihood = {"negative_binomial": {"library_size": 50.0}}
    shape = (12, 1, 1)
    counts = torch.poisson(torch.full((64, *shape), 3.0)).int()
    data = Splits(train=counts, validation=counts, test=counts, levels=None)
    config = trial_config(
        levels=None, shape=shape, likelihood=likelihood, sigma={"per_gene": {}}, epochs=1
    )
    one = trained(config, data, tmp_path)
    assert not one.write(tmp_path / "home").obstacle
    assert sorted(file.name for file in (tmp_path / "home").iterdir()) == FILES
    card = (tmp_path / "home" / "README.md").read_text(encoding="utf-8")
    assert "12×1×1 counts" in card
    assert "`library_size`" in card
    assert "samples.png" not in card
    run = alone(tmp_path / "home" / "model.py", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    x, _, _, again = torch.load(tmp_path / "answers.pt", weights_only=True)
    assert torch.allclose(x.flatten(1).sum(1), torch.tensor(50.0))
    # A reconstruction has as many counts as its example.
    assert torch.allclose(again.flatten(1).sum(1), torch.tensor(50.0))


def test_conditional_model_is_told_labels_with_torch_alone(digits: Splits, tmp_path: Path) -> None:
    assert digits.labels
    few = {name: getattr(digits, name)[:64] for name in ("train", "validation", "test")}
    labels = Targets(**{name: getattr(digits.labels, name)[:64] for name in few})
    data = replace(digits, **few, labels=labels)
    one = trained(trial_config(3, classes=10, epochs=1), data, tmp_path)
    folder = tmp_path / "home"
    assert not one.write(folder).obstacle
    run = alone(folder / "model.py", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    vae = load_vae(folder)
    x, mean, log_variance, again = torch.load(tmp_path / "answers.pt", weights_only=True)
    label = torch.tensor([4, 3, 2, 1, 0])
    torch.testing.assert_close(x, vae.generate(5, seed=3), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(
            (mean, log_variance), vae.encode(x, label), rtol=1e-5, atol=1e-5
        )
    torch.testing.assert_close(again, vae.reconstruct(x, label), rtol=1e-5, atol=1e-5)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "each told its class of 10" in card
    # What the card and the module tell to do does what they say.
    for text in (
        card.partition("```python\n")[2].partition("```")[0],
        (folder / "model.py").read_text(),
    ):
        usage = text[text.index("labels = [0, 1] * 8") :].partition("\n\n")[0]
        lines = "\n".join(line.strip() for line in usage.splitlines())
        script = f"import model\n{lines}\nassert again.shape == x.shape == (16, 1, 8, 8)"
        subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, timeout=120)


def test_model_that_cannot_be_traced_is_exported_without_its_module(
    trial: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "own_networks.py").write_text(
        "from dataclasses import dataclass\n"
        "from torch import nn\n"
        "from tune_vae.science.networks import Network\n"
        "from tune_vae.science.networks.mlp import Mlp\n"
        "class Turn(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x if self.training or x.sum() > 0 else -x\n"
        "@dataclass(frozen=True)\n"
        "class Own(Network):\n"
        "    def build(self, shape, latent_dim, params_per_value):\n"
        "        encoder, decoder = Mlp(hidden=()).build(shape, latent_dim, params_per_value)\n"
        "        return nn.Sequential(Turn(), encoder), decoder\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = trial_config(network={"own_networks:Own": {}}, epochs=1)
    # What follows is about tracing, not about training.
    vae = build_vae(config.member(), config.shape)
    weights = {name: torch.rand(value.shape) for name, value in vae.named_parameters()}
    theta = torch.cat([value.flatten() for value in weights.values()])
    state = {
        **trial.state,
        "theta": theta,
        "buffers": dict(vae.to_empty(device="cpu").named_buffers()),
    }
    made = trial._replace(row=replace(trial.row, config=config), state=state)
    written = made.write(tmp_path / "home")
    assert "data-dependent" in written.obstacle
    names = [file.name for file in (tmp_path / "home").iterdir()]
    assert "model.py" not in names
    card = (tmp_path / "home" / "README.md").read_text(encoding="utf-8")
    assert "There is no `model.py`: the model cannot be written in torch's own operators" in card
    assert f"operators ({written.obstacle})" in card
    assert card.count("model.py") == 1
    assert capfd.readouterr() == ("", "")
    read = safetensors.torch.load_file(tmp_path / "home" / "model.safetensors")
    for name, value in weights.items():
        assert torch.equal(read[name], value)


def keep(folder: Path) -> None:
    (folder / "mine.txt").write_text("precious")


def occupy(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("precious")


@pytest.mark.parametrize("fill", [keep, occupy])
def test_what_lies_there_is_left_as_it_is(
    fill: Callable[[Path], None], trial: Trained, tmp_path: Path
) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    fill(folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExportError, match="home exists already and is left as it is; remove it"):
        trial.write(folder)
    assert sorted(tmp_path.rglob("*")) == before
    (file,) = [entry for entry in before if entry.is_file()]
    assert file.read_text() == "precious"


def test_empty_folder_is_filled(trial: Trained, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    trial.write(tmp_path / "home")
    assert (tmp_path / "home" / "model.py").is_file()


def test_folder_appears_whole_or_not_at_all(
    trial: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def full(*args: Any, **options: Any) -> str:
        seen.append((tmp_path / "home").exists())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "model_card", full)
    with pytest.raises(StorageError, match=r"cannot write the export .*home: .*No space left"):
        trial.write(tmp_path / "home")
    assert seen == [False]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"{}")])
def test_damaged_export_is_refused_in_a_line(
    name: str, damage: Callable[[Path], object], exported: Path, tmp_path: Path
) -> None:
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((exported / file).read_bytes())
    damage(tmp_path / name)
    with pytest.raises(CheckpointError, match="is not a readable export: ") as refused:
        api.load_vae(tmp_path)
    assert "\n" not in str(refused.value)


def test_weights_of_another_model_are_refused(
    trial: Trained, exported: Path, tmp_path: Path
) -> None:
    other = trial.row.config.model_copy(update={"latent_dim": 5})
    (tmp_path / "config.json").write_text(other.model_dump_json())
    (tmp_path / "model.safetensors").write_bytes((exported / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="is not a readable export: "):
        api.load_vae(tmp_path)
