"""Source code that does what a model does, compared with the model."""

import ast
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from tests.discovery import component_classes
from tune_vae.science.likelihoods import Domain, Likelihood
from tune_vae.science.likelihoods.beta import Beta
from tune_vae.science.likelihoods.bitwise_categorical import BitwiseCategorical
from tune_vae.science.likelihoods.categorical import Categorical
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.likelihoods.logistic_mixture import LogisticMixture
from tune_vae.science.likelihoods.poisson import Poisson
from tune_vae.science.likelihoods.zero_inflated_negative_binomial import (
    ZeroInflatedNegativeBinomial,
)
from tune_vae.science.networks import Network
from tune_vae.science.networks.conv import Conv
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.priors import Prior
from tune_vae.science.priors.mixture import Mixture
from tune_vae.science.priors.normal import Normal
from tune_vae.science.priors.standard import Standard
from tune_vae.science.priors.vamp import Vamp
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.per_gene_cell import PerGeneCell
from tune_vae.science.sigmas.per_image import PerImage
from tune_vae.science.sigmas.per_pixel import PerPixel
from tune_vae.science.vae import VAE
from tune_vae.service.plain_torch import WEIGHTS_FILE, UntraceableError, check, source_of

SHAPE, LATENTS = (3, 9, 8), 5
COUNTS = (1, 2, 37)
MLP, CONV = Mlp(hidden=(7,), dropout=0.3), Conv(channels=(4, 6), dropout=0.3, decoder_factor=1.5)
PRIORS = [Standard(), Normal(mean=0.5, scale=2.0), Mixture(components=4)]
PRIORS += [Vamp(components=3), Vamp(components=1, learned_weights=True)]


GAUSSIAN, STANDARD = Gaussian(), Standard()


def model(
    network: Network = MLP,
    likelihood: Likelihood = GAUSSIAN,
    sigma: Sigma | None = None,
    prior: Prior = STANDARD,
    shape: tuple[int, int, int] = SHAPE,
    classes: int = 0,
) -> VAE:
    """A model in which nothing is as it was at the start, as if trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = VAE(
            network=network,
            likelihood=likelihood,
            sigma=sigma or Optimal(),
            shape=shape,
            latent_dim=LATENTS,
            prior=prior,
            classes=classes,
        )
        with torch.no_grad():
            for parameter in vae.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return vae.eval()


def levels_of(vae: VAE) -> int | None:
    return None if Domain.COUNTS in vae.likelihood.domains else 256


def written(vae: VAE, folder: Path) -> Path:
    file = folder / "model.py"
    file.write_text(source_of(vae, "A model.", levels=levels_of(vae)), encoding="utf-8")
    weights = {name: value.clone() for name, value in vae.state_dict().items()}
    safetensors.torch.save_file(weights, folder / WEIGHTS_FILE)
    return file


def loaded(file: Path) -> dict[str, Any]:
    module = {"__name__": "model", "__file__": str(file)}
    exec(file.read_text(encoding="utf-8"), module)
    return module


def examples(vae: VAE, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    uniform = torch.rand(count, *vae.shape, generator=generator)
    return uniform if levels_of(vae) else (20 * uniform).round()


def close(mine: Tensor, theirs: Tensor) -> bool:
    return mine.shape == theirs.shape and torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def compare(vae: VAE, folder: Path) -> None:
    module = loaded(written(vae, folder))
    for count in COUNTS:
        x, latent = examples(vae, count), vae.imagine(count, seed=count)
        for mine, theirs in zip(module["encode"](x), vae.encode(x), strict=True):
            assert close(mine, theirs)
        assert close(module["decode"](latent), vae.likelihood.mean(vae.decode(latent)))
        assert close(module["reconstruct"](x), vae.reconstruct(x))
        assert close(module["sample"](count, seed=count), vae.generate(count, seed=count))
    assert not torch.equal(module["sample"](2, seed=0), module["sample"](2, seed=1))


@pytest.mark.parametrize(
    ("network", "likelihood", "prior"),
    [
        (MLP, Gaussian(), PRIORS[2]),
        (CONV, BitwiseCategorical(), PRIORS[0]),
        (MLP, Poisson(), PRIORS[0]),
    ],
    ids=repr,
)
@torch.no_grad()
def test_source_of_a_conditional_model_takes_labels_as_the_model_does(
    network: Network, likelihood: Likelihood, prior: Prior, tmp_path: Path
) -> None:
    vae = model(network, likelihood, prior=prior, classes=4)
    module = loaded(written(vae, tmp_path))
    check(tmp_path / "model.py", vae, levels=levels_of(vae))
    for count in COUNTS:
        x, latent = examples(vae, count), vae.imagine(count, seed=count)
        label = torch.randint(4, (count,), generator=torch.Generator().manual_seed(count))
        for mine, theirs in zip(module["encode"](x, label), vae.encode(x, label), strict=True):
            assert close(mine, theirs)
        expected = vae.likelihood.mean(vae.decode(latent, label_B=label))
        assert close(module["decode"](latent, label), expected)
        assert close(module["reconstruct"](x, label), vae.reconstruct(x, label))
        told = label.tolist()
        assert close(
            module["sample"](count, seed=3, labels=told), vae.generate(count, seed=3, labels=told)
        )
        assert close(module["sample"](count, seed=3), vae.generate(count, seed=3))
        other = (label + 1) % 4
        assert not close(module["decode"](latent, other), expected)
        assert not close(module["encode"](x, other)[0], module["encode"](x, label)[0])
        assert not close(module["reconstruct"](x, other), vae.reconstruct(x, label))


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [0, 4], [0, -1], [[0, 1]]])
def test_labels_that_cannot_be_are_refused_by_the_module(
    labels: list[int], tmp_path: Path
) -> None:
    module = loaded(written(model(classes=4), tmp_path))
    for ask in (
        lambda: module["sample"](2, labels=labels),
        lambda: module["encode"](torch.zeros(2, *SHAPE), labels),
        lambda: module["reconstruct"](torch.zeros(2, *SHAPE), labels),
    ):
        with pytest.raises(ValueError, match="give 2 labels, each from 0 to 3"):
            ask()


def fits(sigma: Sigma, likelihood: Likelihood) -> bool:
    return likelihood.has_optimal_scale or not sigma.needs_optimal_scale


LIKELIHOODS = [make() for make in component_classes("science.likelihoods")]
SIGMAS = [make() for make in component_classes("science.sigmas")]
DECODERS = [
    (likelihood, sigma)
    for likelihood in LIKELIHOODS
    for sigma in (SIGMAS if likelihood.has_scale else [None])
    if sigma is None or fits(sigma, likelihood)
]


@pytest.mark.parametrize(
    ("network", "likelihood", "sigma", "prior"),
    [
        (MLP, Gaussian(link="identity"), PerPixel(), PRIORS[1]),
        (CONV, BitwiseCategorical(), None, PRIORS[2]),
        (CONV, LogisticMixture(components=2), None, PRIORS[3]),
        (MLP, Beta(), PerImage(), PRIORS[4]),
        (MLP, ZeroInflatedNegativeBinomial(library_size=77.0), PerGeneCell(), PRIORS[3]),
        (MLP, Poisson(library="none"), None, PRIORS[0]),
    ],
    ids=repr,
)
def test_source_answers_as_the_model(
    network: Network,
    likelihood: Likelihood,
    sigma: Sigma | None,
    prior: Prior,
    tmp_path: Path,
) -> None:
    compare(model(network, likelihood, sigma, prior), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("network", [MLP, CONV], ids=repr)
@pytest.mark.parametrize(("likelihood", "sigma"), DECODERS, ids=repr)
def test_source_of_every_decoder_answers_as_the_model(
    network: Network, likelihood: Likelihood, sigma: Sigma | None, tmp_path: Path
) -> None:
    compare(model(network, likelihood, sigma, shape=(1, 8, 8)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("network", [MLP, CONV], ids=repr)
@pytest.mark.parametrize("likelihood", [Gaussian(), Poisson()], ids=repr)
@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_source_of_every_prior_answers_as_the_model(
    network: Network, likelihood: Likelihood, prior: Prior, tmp_path: Path
) -> None:
    # The prior sees of a decoder only whether it is one of counts.
    compare(model(network, likelihood, prior=prior), tmp_path)


def test_no_prior_is_left_out() -> None:
    assert {type(prior) for prior in PRIORS} == set(component_classes("science.priors"))


@pytest.mark.parametrize(
    ("likelihood", "shape", "classes", "has"),
    [
        (Gaussian(), (1, 8, 8), 0, ["to_levels", "save_png"]),
        (Gaussian(), (1, 8, 8), 3, ["to_levels", "save_png", "known_labels"]),
        (Categorical(levels=256), (2, 8, 8), 0, ["to_levels"]),
        (Poisson(), (30, 1, 1), 0, []),
    ],
    ids=repr,
)
def test_source_is_clean_and_imports_torch_and_the_standard_library_only(
    likelihood: Likelihood,
    shape: tuple[int, int, int],
    classes: int,
    has: list[str],
    tmp_path: Path,
) -> None:
    file = written(model(likelihood=likelihood, shape=shape, classes=classes), tmp_path)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    modules = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} - sys.stdlib_module_names == {"torch"}
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    always = {"read_weights", "sample", "encode", "decode", "reconstruct", "draw"}
    assert defined == always | set(has)
    ruff = Path(sys.executable).with_name("ruff")
    rules = ["--isolated", "--select", "E,F,W", "--line-length", "99"]
    found = subprocess.run(
        [ruff, "check", *rules, file], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode == 0, found.stdout


def test_module_reads_its_weights_from_the_file(tmp_path: Path) -> None:
    vae = model()
    file = written(vae, tmp_path)
    weights = {name: torch.zeros_like(value) for name, value in vae.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / WEIGHTS_FILE)
    assert torch.equal(loaded(file)["sample"](2), torch.full((2, *SHAPE), 0.5))


class Layer(nn.Module):
    """An encoder or decoder whose last step is given."""

    def __init__(self, inputs: int, outputs: int, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.last = nn.Linear(inputs, outputs), last
        self.register_buffer("unsaved", torch.linspace(0, 1, outputs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.linear(x.flatten(1)) + self.unsaved)


@dataclass(frozen=True)
class Own(Network):
    """A network of a user's own."""

    last: Callable[[Tensor], Tensor]
    __pydantic_config__: ClassVar[dict[str, str]] = {}

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        values = shape[0] * shape[1] * shape[2]
        encoder = Layer(values, 2 * latent_dim, self.last)
        return encoder, Layer(latent_dim, values * params_per_value, self.last)


def in_place(x: Tensor) -> Tensor:
    return x.mul(2).relu_().add_(torch.tensor([1.0]))


def by_position(x: Tensor) -> Tensor:
    rows = torch.arange(x.shape[0], dtype=torch.float32)
    return x + (rows / x.shape[0])[:, None]


def infinite(x: Tensor) -> Tensor:
    return x.masked_fill(x < 0, float("inf")).clamp(max=3)


@pytest.mark.parametrize("last", [in_place, by_position, infinite])
def test_network_of_a_users_own_becomes_source(
    last: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    compare(model(Own(last)), tmp_path)


def branching(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def counting(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


def failing(x: Tensor) -> Tensor:
    if torch.compiler.is_exporting():
        raise RuntimeError("not in here\nsecond line")
    return x


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (branching, "data-dependent"),
        (counting, "Constraints violated"),
        (failing, "not in here$"),
    ],
)
def test_network_that_cannot_be_traced_is_refused_in_a_line(
    last: Callable[[Tensor], Tensor], says: str
) -> None:
    with pytest.raises(UntraceableError, match=says) as refused:
        source_of(model(Own(last)), "A model.", levels=256)
    assert "\n" not in str(refused.value)


@torch.library.custom_op("tests::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    return 2 * x


@doubled.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_operator_that_torch_alone_does_not_have_is_named() -> None:
    with pytest.raises(UntraceableError, match=r"torch alone has no operator tests\.doubled"):
        source_of(model(Own(doubled)), "A model.", levels=256)


def noisy(x: Tensor) -> Tensor:
    return x + torch.randn_like(x)


def test_module_that_answers_otherwise_is_found(tmp_path: Path) -> None:
    vae = model(Own(noisy))
    with pytest.raises(UntraceableError, match="its trace of `encode` answers 1 otherwise"):
        check(written(vae, tmp_path), vae, levels=256)


@pytest.mark.parametrize(
    ("was", "becomes", "name"),
    [
        ("aten.mul.Tensor(tanh, 16.0)", "aten.mul.Tensor(tanh, 16.1)", "encode"),
        ("aten.sigmoid.default", "aten.tanh.default", "decode"),
        ("aten.exp.default(mul)", "aten.abs.default(mul)", "draw"),
    ],
)
def test_check_compares_every_function(was: str, becomes: str, name: str, tmp_path: Path) -> None:
    vae = model(prior=Normal(mean=0.5, scale=2.0))
    file = written(vae, tmp_path)
    check(file, vae, levels=256)
    text = file.read_text(encoding="utf-8")
    assert was in text
    file.write_text(text.replace(was, becomes), encoding="utf-8")
    with pytest.raises(UntraceableError, match=f"its trace of `{name}` answers 1 otherwise"):
        check(file, vae, levels=256)
