"""Training of one pack, an epoch at a time.

Shapes: K member of a pack, T steps of an epoch, B batch, M latent, n images, C H W image.

Every random number is a function of (member's seed, epoch): the weights at the start, the order
of the images and the noise of the posterior. So a member does not depend on its neighbours, and
a resumed run goes on exactly as it would have gone on.
"""

import hashlib
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from tune_vae.data import Splits, scale
from tune_vae.errors import CheckpointError, DataError
from tune_vae.science.collapse_point import spectral_peak
from tune_vae.science.evaluation import ACTIVE_VARIANCE, calibrated_log_sigma, score
from tune_vae.science.history import COMPARABLE_WEIGHT, EpochReport, Rollback
from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.networks import Network
from tune_vae.science.priors import Prior
from tune_vae.science.priors.standard import Standard
from tune_vae.science.schedules import Schedule
from tune_vae.science.sigmas import Sigma
from tune_vae.science.signals import PROBES, Signals, signals
from tune_vae.science.units import bits_per_dim
from tune_vae.science.vae import VAE
from tune_vae.training.appraisal import Appraisal, Appraiser
from tune_vae.training.capture import Step, captured
from tune_vae.training.feeding import batches, placed
from tune_vae.training.isolation import ensure_isolated
from tune_vae.training.lookout import LOOK_STEPS, Lookout
from tune_vae.training.pack import Knobs, Pack, Row, fresh_row

__all__ = ["PRECISIONS", "Member", "Trainer", "build_vae", "restored_vae", "rollbacks_of"]

CALIBRATION_IMAGES = 256
SPECTRUM_IMAGES = 512
CONSTANT_IMAGES = 4096
"""Training images whose mean stands for a model that has learned nothing but that."""
EVALUATION_BATCH = 512
EVALUATION_OUTPUTS = 2**23
"""Numbers that the decoders of a pack may give at once; with 256 for each pixel it is these that
fill the memory."""
NOISE_CHUNK = 64
"""Steps whose noise is drawn at once, which bounds the memory it takes."""
DEAR_SCORES = frozenset({"sample_distance", "probe_error"})
"""Too dear for every epoch of a study that does not search for them."""
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
"""Those of a `VAE`, by the names in a study file."""
ROLLBACK_LR = 0.5
"""Factor on the learning rate of a member that is rolled back."""


@dataclass(frozen=True)
class Member:
    """Everything that defines the training of one trial.

    Arguments:
        trial: Its number, which names it in reports.
        seed: Seed of weights, data order and noise.
        network, latent_dim, likelihood, sigma: The model; `sigma` is None without a scale.
        schedule: KL schedule w(t).
        beta: Final KL weight (not normalised).
        lr, weight_decay, grad_clip: See `Knobs`.
        epochs, batch_size: Length of the training and images per step.
        prior: What latents are expected.
        classes: Number of classes that a conditional model is told apart; 0 for none.
        free_bits, free_bits_total, kl_target: See `Knobs`.
        init_scale: Factor on the weights (not the biases) that training starts from.
        precision: Of the networks' products, in training and validation; a key of `PRECISIONS`.
            A pack that would leak with it goes without; see `isolation`.
        config: Text that rebuilds this member, carried into its checkpoints.
    """

    trial: int
    seed: int
    network: Network
    latent_dim: int
    likelihood: Likelihood
    sigma: Sigma | None
    schedule: Schedule
    beta: float
    lr: float
    weight_decay: float
    grad_clip: float
    epochs: int
    batch_size: int
    prior: Prior = field(default_factory=Standard)
    classes: int = 0
    free_bits: float = 0.0
    free_bits_total: float = 0.0
    kl_target: float = 0.0
    init_scale: float = 1.0
    precision: str = "float32"
    config: str = ""

    def pack_key(self) -> tuple[object, ...]:
        """What must be equal for two members to train in one pack."""
        sigma = self.sigma.pack_key() if self.sigma else None
        prior = self.prior.pack_key()
        model = (self.network, self.latent_dim, self.likelihood, sigma, prior, self.classes)
        return (*model, self.batch_size, self.precision)

    def knobs(self) -> Knobs:
        """What may differ between the members of a pack."""
        return Knobs(**{f.name: getattr(self, f.name) for f in fields(Knobs)})


def build_vae(member: Member, shape: tuple[int, int, int]) -> VAE:
    """The untrained model of a member, its weights drawn from its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_mix(member.seed, "weights"))
        vae = VAE(
            network=member.network,
            likelihood=member.likelihood,
            sigma=member.sigma,
            shape=shape,
            latent_dim=member.latent_dim,
            prior=member.prior,
            classes=member.classes,
            precision=PRECISIONS[member.precision],
        )
    with torch.no_grad():
        for part in (vae.encoder, vae.decoder):
            for parameter in part.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(member.init_scale)
    return vae


def restored_vae(member: Member, shape: tuple[int, int, int], state: Mapping[str, Any]) -> VAE:
    """The model that a state of the member holds, in evaluation mode on the host, in float32
    throughout.
    """
    vae = build_vae(member, shape)
    vae.precision = None
    nn.utils.vector_to_parameters(state["theta"], vae.parameters())
    # Not by `load_state_dict`, which passes over buffers that a module does not save by itself.
    for name, buffer in vae.named_buffers():
        buffer.copy_(state["buffers"].get(name, buffer))
    return vae.eval()


def rollbacks_of(state: Mapping[str, Any] | None) -> tuple[Rollback, ...]:
    """What a member went through to get to a state; nothing if an earlier version wrote it."""
    return tuple(Rollback(**one) for one in (state or {}).get("rollbacks", ()))


class Trainer:
    """Trains the members of one pack; iterate over it, one epoch at a time.

    Each turn yields the reports of the living members. Between two turns the caller may
    `retire` members, `roll_back` those whose loss is lost, and take their `state`.

    An epoch ends early when no member is alive any more: 20 steps after the last loss at most.

    Arguments:
        members: Members of equal pack key.
        data: The images; they are kept on the device as they are, one byte a value, if they fit
            there. On a CPU they are not copied.
        device: Where to train.
        resume: States by trial, from `state`; members without one begin anew.
        dtype: float32, or float64 to check formulas.
        objective: What the study searches for. Of it, `DEAR_SCORES` are found in every epoch.

    Raises:
        LeakError: A sick member would spoil the others of so large a pack; see `isolation`.
        DataError: Fewer training images than one batch, or no labels for a conditional model.
        CheckpointError: A state belongs to another model.

    Example:
        for reports in Trainer([member], data):
            print(reports[0].bits_per_dim)
    """

    def __init__(
        self,
        members: Sequence[Member],
        data: Splits,
        *,
        device: torch.device | str = "cpu",
        resume: Mapping[int, Mapping[str, Any]] | None = None,
        dtype: torch.dtype = torch.float32,
        objective: Collection[str] = (),
    ) -> None:
        if len({member.pack_key() for member in members}) != 1:
            raise ValueError("the members of a pack must have one pack key")
        self._members = list(members)
        self._data = data
        self._device, self._dtype = torch.device(device), dtype
        self._batch = members[0].batch_size
        self._steps = len(data.train) // self._batch
        if not self._steps:
            raise DataError(
                f"batch_size {self._batch} exceeds the {len(data.train)} training images; "
                "choose a smaller one"
            )
        misfit = members[0].likelihood.misfit(data.levels)
        if misfit:
            raise DataError(f"{type(members[0].likelihood).__name__} does not fit: {misfit}")
        self._train_labels, self._validation_labels = self._labels(members[0].classes)
        self._dear = DEAR_SCORES.intersection(objective)
        self._appraiser = Appraiser(data, self._device)
        self._train = placed(data.train, self._device)
        self._validation = placed(data.validation, self._device)
        states = resume or {}
        self._epochs = [_epochs_of(states.get(member.trial)) for member in members]
        self._all: dict[int, Member] = {}
        self._rollbacks: dict[int, tuple[Rollback, ...]] = {}
        self._weights: dict[int, Tensor] = {}
        self._ahead: dict[int, list[float]] = {}
        for member in members:
            self._enroll(member, states.get(member.trial))
        self._template = build_vae(members[0], data.shape).to(self._device, dtype)
        rows = [self._row(member, states.get(member.trial)) for member in members]
        knobs = [self._knobs(member) for member in members]
        self._try_out(len(rows))
        self._pack = Pack(self._template, rows, knobs)
        self._recorded: Step | None = None
        x_nCHW = scale(data.train[:SPECTRUM_IMAGES], data.levels)
        if members[0].classes:
            # What the label tells need not pass through the latents.
            x_nCHW = _within_classes(x_nCHW, self._train_labels[:SPECTRUM_IMAGES].cpu())
        peak = spectral_peak(x_nCHW).item()
        self._spectral_peak = peak if math.isfinite(peak) else None
        self._retired: set[int] = set()

    def _labels(self, classes: int) -> tuple[Tensor, Tensor]:
        """Of training and validation images; zeros, which nobody looks at, if none are told."""
        data = self._data
        if classes and not 0 < data.classes <= classes:
            raise DataError(
                f"a conditional model of {classes} classes needs their labels, and these data "
                f"have {data.classes or 'none'}"
            )
        if classes and data.told:
            train, validation, _ = data.told
        else:
            train, validation = (
                torch.zeros(len(x), dtype=torch.int64) for x in (data.train, data.validation)
            )
        return train.to(self._device), validation.to(self._device)

    def _try_out(self, size: int) -> None:
        key = self._members[0].pack_key()
        ensure_isolated(key, self._template, size=size, batch=self._batch)

    def _row(self, member: Member, state: Mapping[str, Any] | None) -> Row:
        """A member's part of a state, or the one it begins with, on the device."""
        row = fresh_row(build_vae(member, self._data.shape).to(self._dtype))
        if state:
            if _contents(state) != _contents(row):
                raise CheckpointError(
                    f"the checkpoint of trial {member.trial} holds another model: "
                    f"{_contents(state)} instead of {_contents(row)}"
                )
            row = {key: state[key] for key in row}
        return {
            key: {name: b.to(self._device) for name, b in value.items()}
            if isinstance(value, dict)
            else value.to(self._device)
            for key, value in row.items()
        }

    def _lr(self, member: Member) -> float:
        return member.lr * ROLLBACK_LR ** len(self._rollbacks[member.trial])

    def _knobs(self, member: Member) -> Knobs:
        return replace(member.knobs(), lr=self._lr(member))

    @property
    def living(self) -> list[int]:
        """Trials that still have epochs to run."""
        return [
            member.trial
            for member, epoch in zip(self._members, self._epochs, strict=True)
            if epoch < member.epochs and member.trial not in self._retired
        ]

    def retire(self, trial: int) -> None:
        """Let a member go; its place is freed before the next epoch."""
        self._retired.add(trial)

    @property
    def vacancies(self) -> int:
        """Places of members that left, which the next epoch closes unless somebody is admitted."""
        return len(self._members) - len(self.living)

    def admit(self, member: Member, state: Mapping[str, Any] | None = None) -> None:
        """Give the place of a member that left to another one, from the next epoch on.

        The others stay as they are, and what they compute is the same bit for bit.

        Arguments:
            member: Of the same pack key, and with a number that no other member has or had.
            state: From `state`; None to begin anew.

        Raises:
            CheckpointError: The state belongs to another model.
        """
        if member.pack_key() != self._members[0].pack_key():
            raise ValueError("the members of a pack must have one pack key")
        living = self.living
        k = next(k for k, one in enumerate(self._members) if one.trial not in living)
        row = self._row(member, state)
        self._enroll(member, state)
        self._pack.put(k, row, self._knobs(member))
        self._members[k], self._epochs[k] = member, _epochs_of(state)
        self._recorded = None

    def _enroll(self, member: Member, state: Mapping[str, Any] | None) -> None:
        """Note what is kept by a trial's number."""
        trial = member.trial
        self._all[trial] = member
        self._rollbacks[trial] = rollbacks_of(state)
        self._weights[trial] = self._kl_weights(member)
        self._ahead[trial] = _lowest_ahead(self._weights[trial])

    def roll_back(self, lost: EpochReport, state: Mapping[str, Any] | None) -> None:
        """Take a member that was lost back to an earlier epoch, at half its learning rate.

        It runs the same batches with the same noise again. The others stay as they are.

        Arguments:
            lost: The report that told the loss.
            state: From `state`, before the loss; None to begin again.
        """
        k = self._index(lost.trial)
        member = self._members[k]
        self._epochs[k] = _epochs_of(state)
        rollback = Rollback(
            step=lost.lost_step,
            epoch=lost.epoch,
            resumed=self._epochs[k],
            lr_before=lost.lr,
            lr_after=lost.lr * ROLLBACK_LR,
        )
        self._rollbacks[lost.trial] += (rollback,)
        self._pack.put(k, self._row(member, state), self._knobs(member))
        self._recorded = None

    def state(self, trial: int) -> dict[str, Any]:
        """Everything needed to go on with a member, as tensors and plain values on the host.

        Order and noise need no entry of their own: they follow from seed and epoch.
        """
        k = self._index(trial)
        member = self._members[k]
        return self._pack.row(k) | {
            "trial": trial,
            "seed": member.seed,
            "epoch": self._epochs[k],
            "rollbacks": [asdict(rollback) for rollback in self._rollbacks[trial]],
            "config": member.config,
        }

    def __iter__(self) -> Iterator[list[EpochReport]]:
        while self.living:
            self._compact()
            yield self._epoch()

    def _index(self, trial: int) -> int:
        return [member.trial for member in self._members].index(trial)

    def _compact(self) -> None:
        living = set(self.living)
        stay = [k for k, member in enumerate(self._members) if member.trial in living]
        if len(stay) < len(self._members):
            self._pack.keep(stay)
            self._try_out(len(stay))
            self._recorded = None
            self._members = [self._members[k] for k in stay]
            self._epochs = [self._epochs[k] for k in stay]

    def _epoch(self) -> list[EpochReport]:
        begin = time.perf_counter()
        images = len(self._train)
        order_KTB = torch.stack(
            [
                torch.randperm(images, generator=self._generator(k, "order"))[
                    : self._steps * self._batch
                ].view(self._steps, self._batch)
                for k in range(self._pack.size)
            ]
        )
        weight_KT = torch.stack(
            [
                self._weights[member.trial][epoch]
                for member, epoch in zip(self._members, self._epochs, strict=True)
            ]
        )
        label_KTB = self._train_labels[self._sent(order_KTB)]
        # A copy: a recorded step writes to where it read from.
        measured, alive_K, lookout = [], self._pack.alive_K.clone(), Lookout()
        for step, images_KBCHW in enumerate(batches(self._train, order_KTB, self._device)):
            if step % NOISE_CHUNK == 0:
                noise_KTBM = self._noise(step)
            measured.append(
                self._step(
                    self._scaled(images_KBCHW),
                    noise_KTBM[:, step % NOISE_CHUNK],
                    weight_KT[:, step],
                    label_KTB[:, step],
                )
            )
            if (step + 1) % LOOK_STEPS == 0 and lookout.all_lost(self._pack.alive_K):
                break
        self._epochs = [epoch + 1 for epoch in self._epochs]
        return self._reports(torch.stack(measured, dim=1), weight_KT, alive_K, begin)

    def _step(self, *given: Tensor) -> Tensor:
        if self._recorded is None:
            self._recorded = captured(self._pack, given)
        return self._recorded(*given)

    def _scaled(self, images: Tensor) -> Tensor:
        return scale(images.to(self._device), self._data.levels).to(self._dtype)

    def _noise(self, step: int) -> Tensor:
        chunk = min(NOISE_CHUNK, self._steps - step)
        shape = (chunk, self._batch, self._members[0].latent_dim)
        drawn = [
            torch.randn(shape, generator=self._generator(k, f"noise {step}"))
            for k in range(self._pack.size)
        ]
        return self._sent(torch.stack(drawn)).to(self._dtype)

    def _sent(self, values: Tensor) -> Tensor:
        """From the host to the device, which is not waited for."""
        if self._device.type == "cuda":
            values = values.pin_memory()
        return values.to(self._device, non_blocking=True)

    def _generator(self, k: int, purpose: str) -> torch.Generator:
        seed = _mix(self._members[k].seed, f"{purpose} of epoch {self._epochs[k]}")
        return torch.Generator().manual_seed(seed)

    def _kl_weights(self, member: Member) -> Tensor:
        """KL weight of every step, `[epochs, T]`; the last is 1."""
        total = member.epochs * self._steps
        progress = torch.arange(1, total + 1, dtype=torch.float64) / total
        schedule = member.schedule.for_steps(total)
        weight = schedule.weight(progress).view(member.epochs, self._steps)
        return weight.to(self._device, self._dtype)

    def _reports(
        self, measured_KT5: Tensor, weight_KT: Tensor, alive_K: Tensor, begin: float
    ) -> list[EpochReport]:
        numbers, rates = self.evaluate()
        training = torch.cat(
            [
                measured_KT5[:, :, :2].mean(1),
                measured_KT5[:, :, 2].amax(1, keepdim=True),
                measured_KT5[:, :, 3].sum(1, keepdim=True),
                measured_KT5[:, :, 4].amin(1, keepdim=True),
                weight_KT[:, -1:],
                weight_KT.amin(1, keepdim=True),
                (weight_KT >= COMPARABLE_WEIGHT).sum(1, keepdim=True),
                alive_K[:, None],
                measured_KT5[:, :, 4].sum(1, keepdim=True),
            ],
            dim=1,
        )
        parts = (training.double(), self.signals(), torch.cat([numbers, rates], dim=1))
        # The one transfer to the host of the whole epoch.
        table = torch.cat(parts, dim=1).tolist()
        seconds = time.perf_counter() - begin
        first, second = training.shape[1], training.shape[1] + len(Signals._fields)
        return [
            self._report(k, row[:first], row[first:second], row[second:], seconds)
            for k, row in enumerate(table)
        ]

    def _report(
        self,
        k: int,
        training: list[float],
        signs: list[float],
        scored: list[float],
        seconds: float,
    ) -> EpochReport:
        member, epoch = self._members[k], self._epochs[k]
        before = (epoch - 1) * self._steps
        train_rate, train_distortion, grad_norm, skipped, finite, *schedule = training
        weight, weight_low, full_steps, alive, alive_steps = schedule
        sigma, active, *rates = scored[4:]
        # An epoch that ends before its time is one in which all were lost.
        lost = before + int(alive_steps) + 1 if alive and alive_steps < self._steps else None
        return EpochReport(
            trial=member.trial,
            epoch=epoch,
            step=lost or before + self._steps,
            kl_weight=weight,
            kl_weight_low=weight_low,
            beta=member.beta * weight,
            lr=self._lr(member),
            train_rate_nats=train_rate,
            train_distortion_nats=train_distortion,
            grad_norm=grad_norm,
            skipped=int(skipped),
            finite=bool(finite),
            **self._score(scored),
            rate_per_latent_nats=tuple(rates),
            active_units=int(active),
            sigma=sigma if member.likelihood.has_scale else math.nan,
            seconds=seconds,
            full_steps=int(full_steps),
            kl_weight_ahead=self._ahead[member.trial][epoch - 1],
            lost_step=lost,
            spectral_peak=self._spectral_peak,
            rollbacks=len(self._rollbacks[member.trial]),
            ended_at=time.time(),
            **_known(signs),
            **self._dear_scores(member),
        )

    def _dear_scores(self, member: Member) -> dict[str, float]:
        if not self._dear:
            return {}
        vae = self._model(member, self.state(member.trial))
        found = {}
        if "sample_distance" in self._dear:
            distance = self._appraiser.sample_scores(vae)["sample_distance"]
            found["sample_distance"] = distance
        if "probe_error" in self._dear:
            found["probe_error"] = 1 - self._appraiser.probe_scores(vae)["probe_accuracy"]
        return found

    def _model(self, member: Member, state: Mapping[str, Any]) -> VAE:
        return restored_vae(member, self._data.shape, state).to(self._device)

    def appraise(self, trial: int, state: Mapping[str, Any]) -> Appraisal:
        """All scores of a member's model at the time of a state."""
        return self._appraiser.appraise(self._model(self._all[trial], state))

    def draw(self, trial: int) -> dict[str, Tensor]:
        """What a member's model draws as it stands, by name, `[H, W, C]` in bytes."""
        model = self._model(self._members[self._index(trial)], self.state(trial))
        return self._appraiser.draw(model)

    def scores(self) -> list[dict[str, float]]:
        """Validation scores of every member as it stands, without training; see `EpochReport`."""
        numbers, rates = self.evaluate()
        scored = torch.cat([numbers, rates], dim=1).tolist()
        return [self._score(row) for row in scored]

    def _score(self, scored: list[float]) -> dict[str, float]:
        distortion, mass, calibrated, mse, _, _, *rates = scored
        rate, values = sum(rates), self._data.values
        return {
            "rate_nats": rate,
            "distortion_nats": distortion,
            "neg_elbo": rate + distortion,
            "mse": mse,
            "bits_per_dim": bits_per_dim(rate + mass, values),
            "bits_per_dim_calibrated": bits_per_dim(rate + calibrated, values),
        }

    @torch.no_grad()
    def signals(self) -> Tensor:
        """`Signals` of every member as it stands, on the device, `[K, 6]` in float64."""
        generator = torch.Generator().manual_seed(_mix(0, "noise of the probes"))
        x = self._scaled(self._validation[:PROBES])
        noise_nM = torch.randn(len(x), self._members[0].latent_dim, generator=generator)
        found: Signals = self._pack.evaluate(
            signals,
            x,
            noise_nM.to(self._device, self._dtype),
            self._scaled(self._train[:CONSTANT_IMAGES]).mean(0),
            self._validation_labels[:PROBES],
            in_dims=(None, None, None, None),
        )
        return torch.stack(list(found), dim=1)

    @torch.no_grad()
    def evaluate(self) -> tuple[Tensor, Tensor]:
        """Validation scores of every member, on the device, in float64.

        Returns:
            `[K, 6]`: distortion, mass and calibrated mass in nats, squared error, sigma (the
            geometric mean where there are several), active units; and the rate per latent
            `[K, M]` in nats. Means over the images.
        """
        levels, latents = self._data.levels, self._members[0].latent_dim
        # One seed for all trials: the difference of two trials is then paired.
        generator = torch.Generator().manual_seed(_mix(0, "validation noise"))
        held_out = self._validation
        noise_nM = torch.randn(len(held_out), latents, generator=generator)
        noise_nM = noise_nM.to(self._device, self._dtype)
        sample = self._scaled(self._train[:CALIBRATION_IMAGES])
        sample_noise = torch.randn(len(sample), latents, generator=generator)
        fitted_K = self._pack.evaluate(
            lambda vae, x, noise, label: calibrated_log_sigma(vae, x, noise, label, levels=levels),
            sample,
            sample_noise.to(self._device, self._dtype),
            self._train_labels[:CALIBRATION_IMAGES],
            in_dims=(None, None, None),
        )
        outputs = self._data.values * self._members[0].likelihood.params_per_value
        size = max(1, min(EVALUATION_BATCH, EVALUATION_OUTPUTS // (outputs * self._pack.size)))
        batches = [
            self._pack.evaluate(
                lambda vae, x, noise, fitted, label: score(
                    vae, x, noise, fitted, label, levels=levels
                ),
                self._scaled(held_out[start : start + size]),
                noise_nM[start : start + size],
                fitted_K,
                self._validation_labels[start : start + size],
                in_dims=(None, None, 0, None),
            )
            for start in range(0, len(held_out), size)
        ]

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(batch, name) for batch in batches], dim=1).double()

        means_KnM = joined("mean_BM")
        active_K = (means_KnM.var(1, correction=0) > ACTIVE_VARIANCE).sum(1).double()
        sigma_K = joined("log_sigma_B").mean(1).exp()
        columns = ("distortion_B", "mass_nats_B", "calibrated_nats_B", "squared_error_B")
        numbers = [joined(name).mean(1) for name in columns]
        return torch.stack([*numbers, sigma_K, active_K], dim=1), joined("rate_BM").mean(1)


def _known(signs: list[float]) -> dict[str, Any]:
    """Signs of health by name; those without a finite value are None."""
    return {
        name: value if math.isfinite(value) else None
        for name, value in zip(Signals._fields, signs, strict=True)
    }


def _within_classes(x_nCHW: Tensor, label_n: Tensor) -> Tensor:
    """Examples less the mean of their class."""
    within_nCHW = x_nCHW.clone()
    for label in set(label_n.tolist()):
        within_nCHW[label_n == label] -= x_nCHW[label_n == label].mean(0)
    return within_nCHW


def _lowest_ahead(weight: Tensor) -> list[float]:
    """After each epoch, the lowest of the KL weights `[epochs, T]` still to come."""
    lowest = [*weight.amin(1).tolist(), 1.0]
    return [min(lowest[epoch:]) for epoch in range(1, len(lowest))]


def _epochs_of(state: Mapping[str, Any] | None) -> int:
    return int(state["epoch"]) if state else 0


def _contents(row: Mapping[str, Any]) -> str:
    return " and ".join([f"{row['theta'].numel()} parameters", *sorted(row["buffers"])])


def _mix(seed: int, purpose: str) -> int:
    """A seed of its own for each purpose, in [0, 2^63)."""
    digest = hashlib.blake2b(f"{seed} {purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
