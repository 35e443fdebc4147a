"""What the README of an exported model says."""

import math
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch

from tune_vae.data import Splits
from tune_vae.science.history import OBJECTIVES, EpochReport
from tune_vae.service.plain_torch import WEIGHTS_FILE, pictured, units_of, usage_of
from tune_vae.service.rows import TrialRow
from tune_vae.spec import components
from tune_vae.spec.trial import TrialConfig

__all__ = ["MEANINGS", "model_card"]

MEANINGS = OBJECTIVES | {
    "active_units": "latents whose mean differs between examples (variance above 0.01)",
    "sigma": "scale of the decoder distribution",
    "sample_coverage": "share of held-out examples with a sample near them; 1 is best",
    "mutual_information_nats": "what the latents know of their example; an estimate from below",
    "mutual_information_error_nats": "its standard error",
    "posterior_gap_nats": "rate less that: how far all posteriors together are from the prior",
    "decoder_sensitivity": "share of the data's variance that the latents move; 0 if ignored",
    "generalisation_gap_bits": "bits per dim that validation costs beyond training examples",
    "importance_weighted_nats": "tighter bound of the negative log-evidence, as the likelihood "
    "states it",
    "importance_weighted_nats_error": "its standard error over examples",
    "importance_weighted_bits": "the same as probability mass, per dim",
    "psnr": "of reconstructions, decibels; more is better",
    "ssim": "of reconstructions; 1 is best",
    "probe_accuracy": "of a linear classifier on drawn latents; more is better",
    "mig": "mutual information gap of latents and known factors; 1 is best",
    "disentanglement": "DCI: each latent tells of one factor; 1 is best",
    "completeness": "DCI: each factor is told by one latent; 1 is best",
    "informativeness": "DCI: how well the latents tell the factors; 1 is best",
}
"""What the scores of a model mean, in the order in which they are shown."""

CARD = """\
# {study}, trial {trial}

A variational autoencoder of {what}: {latents} latents, decoder {decoder}, trained by tune-vae
{version}.{picture}

**{kind}**: {reason}

## Use

{use}

With tune-vae installed, `tune_vae.load_vae("this-folder")` gives the model as a `torch.nn.Module`
that also knows likelihoods and rates.

| File | Holds | Read by |
|---|---|---|
{files}

Reading `{weights}` and the JSON files executes nothing; there is no pickle here.

## Data

`{data}`, digest `{digest}`: {train:,} training, {validation:,} validation and {test:,} test
examples. tune-vae does not know under which licence you have them: look it up before you pass the
model or its samples on.

## Scores

The study minimised {objective}. All scores are of validation examples at β = 1, by the weights of
epoch {epoch} of {epochs}, which are the ones in this folder; `metrics.json` has all digits.

| Score | Value | Meaning |
|---|---|---|
{scores}

## Training

| | |
|---|---|
{settings}

Again, in the folder of the study, or from `config.json` alone:

```sh
{again}
```

```python
from pathlib import Path
from tune_vae import train
from tune_vae.spec.trial import TrialConfig

train(TrialConfig.model_validate_json(Path("config.json").read_text()))
```

Either trains through the last epoch.

## Limits

{limits}
"""

USE = """\
`python model.py` draws {drawn}. In Python, with torch and nothing else (written with {torch}):

```python
import model

{usage}
```

{units}"""

NO_USE = """\
There is no `model.py`: the model cannot be written in torch's own operators ({obstacle}). It needs
tune-vae, and the module of its own parts where it has any."""


def model_card(
    row: TrialRow, report: EpochReport, data: Splits, *, again: str, obstacle: str
) -> str:
    """The README of an exported trial.

    Arguments:
        row: The trial.
        report: Of the epoch whose weights are exported.
        data: What it was trained on.
        again: Command that trains it again.
        obstacle: Why there is no `model.py`; empty if there is one.
    """
    config = row.config
    pictures = pictured(data.shape, data.levels)
    return CARD.format(
        study=config.study,
        trial=config.trial,
        what=_what(data)
        + (f", each told its class of {config.classes}" if config.classes else ""),
        latents=config.latent_dim,
        decoder=config.decoder,
        version=version("tune-vae"),
        picture="\n\n![64 samples from the prior](samples.png)" if pictures else "",
        kind=row.kind.replace("_", " ").capitalize(),
        reason=row.reason,
        use=_use(config, data, obstacle),
        files="\n".join(_files(obstacle, pictures=pictures)),
        weights=WEIGHTS_FILE,
        data=_reference(config.data),
        digest=data.digest(),
        train=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
        objective=" and ".join(f"`{name}`" for name in config.objective),
        epoch=report.epoch,
        epochs=config.epochs,
        scores="\n".join(_scores(row, report)),
        settings="\n".join(_settings(row)),
        again=again,
        limits="\n".join(f"- {one}" for one in _limits(row, data)),
    )


def _what(data: Splits) -> str:
    size = "×".join(map(str, data.shape))
    return f"{size} images of {data.levels} levels" if data.levels else f"{size} counts"


def _use(config: TrialConfig, data: Splits, obstacle: str) -> str:
    if obstacle:
        return NO_USE.format(obstacle=obstacle)
    pictures = pictured(data.shape, data.levels)
    return USE.format(
        drawn="64 samples into `samples.png`" if pictures else "64 samples",
        torch=torch.__version__,
        usage=usage_of(config.shape, config.latent_dim, config.classes),
        units=units_of(data.levels),
    )


def _files(obstacle: str, *, pictures: bool) -> Iterator[str]:
    readers = "safetensors"
    if not obstacle:
        yield "| `model.py` | what the model does, in torch's operators | Python |"
        readers = "`model.py`, or safetensors"
    yield f"| `{WEIGHTS_FILE}` | its weights, numbers only | {readers} |"
    yield "| `config.json` | everything that defines it and its training | tune-vae |"
    yield "| `metrics.json` | verdict, scores, data | any JSON reader |"
    if pictures:
        yield "| `samples.png` | 64 samples, expected images | |"


def _scores(row: TrialRow, report: EpochReport) -> Iterator[str]:
    known = report.to_dict() | dict(row.appraisal)
    for name, meaning in MEANINGS.items():
        value = known.get(name)
        if value is not None and math.isfinite(value):
            yield f"| `{name}` | {value:.4g} | {meaning} |"


def _settings(row: TrialRow) -> Iterator[str]:
    config = row.config
    for name in ("network", "likelihood", "sigma", "prior", "schedule"):
        ref = getattr(config, name)
        yield f"| {name} | {_reference(ref) if ref else 'none: no scale'} |"
    yield f"| beta_norm | {config.beta_norm:.4g} (β {config.beta:.4g}) |"
    clip = "none" if config.grad_clip is None else f"{config.grad_clip:.4g}"
    yield f"| lr, weight_decay | {config.lr:.4g}, {config.weight_decay:.4g} (Adam) |"
    yield f"| grad_clip | {clip} |"
    yield f"| length | {config.epochs} epochs, batches of {config.batch_size} |"
    yield f"| precision of products | {config.precision} |"
    yield f"| seed | {config.seed} |"


def _limits(row: TrialRow, data: Splits) -> Iterator[str]:
    yield "One training with one seed; small differences between trials mean nothing."
    yield (
        "The trial was chosen by its scores on the validation examples, so on new ones expect "
        "slightly worse; the search never looked at the test examples."
    )
    yield (
        "Samples and reconstructions are the decoder's expected values, without the noise of its "
        "distribution; they are smoother than data."
    )
    yield f"It knows nothing but examples like its data, {_what(data)}."
    if not row.finished:
        yield "The trial did not run all its epochs or ended ill: see the verdict above."
    if data.levels is None:
        yield (
            "Samples are of an example with the likelihood's `library_size` counts in all, unless "
            "its `library` is `none`."
        )


def _reference(ref: dict[str, Any]) -> str:
    name, arguments = components.split(ref)
    inner = ", ".join(f"{key} {value}" for key, value in arguments.items())
    return f"{name} ({inner})" if inner else name
