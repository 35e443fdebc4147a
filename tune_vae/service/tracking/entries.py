"""What a run of MLflow says of a trial: its name, tags, parameters, metrics and end."""

import math
import time
from typing import Any

from tune_vae.science.health import Kind
from tune_vae.science.history import EpochReport
from tune_vae.service.journey import TrialResult
from tune_vae.spec import components
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

__all__ = [
    "NOTE",
    "STATUS",
    "common_tags",
    "final_scores",
    "kind_tags",
    "metrics_of",
    "moment_of",
    "params_of",
    "run_name",
]

STATUS = dict.fromkeys((kind for kind in Kind if not kind.fatal), "FINISHED") | dict.fromkeys(
    (Kind.EXPLODING, Kind.DIVERGED, Kind.FAILED), "FAILED"
)
"""MLflow's word for a verdict; KILLED for all others, which were stopped on purpose."""
NOTE = "mlflow.note.content"
"""Tag with what a page says, in Markdown."""


def common_tags(spec: StudySpec) -> dict[str, str]:
    """Tags of every run of a study."""
    return {
        "tune_vae.study": spec.name,
        "mlflow.source.name": f"tune-vae search {spec.file}",
        "mlflow.source.type": "LOCAL",
    }


def run_name(config: TrialConfig) -> str:
    """At most some 22 characters: MLflow cuts what is longer."""
    number, slash, seed = config.label.partition("/")
    return f"{number:0>3}{slash}{seed} {_short_decoder(config)} b{config.beta_norm:.2g}"


def kind_tags(config: TrialConfig) -> dict[str, str]:
    """Tags by which pages and searches leave the repeats out, or show them alone."""
    if config.repeat_of is None:
        return {"tune_vae.kind": "trial"}
    return {"tune_vae.kind": "repeat", "tune_vae.repeat_of": str(config.repeat_of)}


def _short_decoder(config: TrialConfig) -> str:
    """`gauss-opt`, `cb`: MLflow's columns and axes are about ten characters wide."""
    likelihood = components.split(config.likelihood)[0].rpartition(":")[2]
    words = likelihood.split("_")
    short = likelihood[:5] if len(words) == 1 else "".join(word[0] for word in words)
    return f"{short}-{components.split(config.sigma)[0][:3]}" if config.sigma else short


def params_of(config: TrialConfig) -> dict[str, str]:
    def short(ref: dict[str, Any] | None) -> str:
        if ref is None:
            return "n/a"
        name, arguments = components.split(ref)
        inner = ", ".join(f"{key}={value}" for key, value in arguments.items())
        return f"{name}({inner})" if inner else name

    log_beta = math.log10(config.beta_norm) if config.beta_norm > 0 else -math.inf
    return {
        "decoder": _short_decoder(config),
        "beta_norm": f"{config.beta_norm:.6g}",
        "log10_beta_norm": f"{log_beta:.4f}",
        "beta": f"{config.beta:.6g}",
        "schedule": short(config.schedule),
        "lr": f"{config.lr:.6g}",
        "likelihood": short(config.likelihood),
        "sigma": short(config.sigma),
        "prior": short(config.prior),
        "network": short(config.network),
        "latent_dim": str(config.latent_dim),
        "batch_size": str(config.batch_size),
        "epochs": str(config.epochs),
        "precision": config.precision,
        "weight_decay": f"{config.weight_decay:g}",
        "grad_clip": "none" if config.grad_clip is None else f"{config.grad_clip:g}",
        "free_bits": f"{config.free_bits:g}",
        "free_bits_total": f"{config.free_bits_total:g}",
        "kl_target": f"{config.kl_target:g}",
        "init_scale": f"{config.init_scale:g}",
        "seed": str(config.seed),
        "data": short(config.data),
    }


def metrics_of(report: EpochReport) -> list[Any]:
    from mlflow.entities import Metric

    moment = moment_of(report)
    pairs = {
        "val/bits_per_dim": report.bits_per_dim,
        "val/bits_per_dim_calibrated": report.bits_per_dim_calibrated,
        "val/rate": report.rate_nats,
        "val/distortion": report.distortion_nats,
        "val/neg_elbo": report.neg_elbo,
        "val/mse": report.mse,
        "val/sample_distance": report.value("sample_distance"),
        "val/probe_error": report.value("probe_error"),
        "health/active_units": report.active_units,
        "health/sigma": report.sigma,
        "health/explained_variance": report.value("explained_variance"),
        "health/mutual_information": report.value("mutual_information_nats"),
        "health/decoder_sensitivity": report.value("decoder_sensitivity"),
        "health/mean_variance": report.value("mean_variance"),
        "health/log_variances_at_bound": report.value("at_bound"),
        "health/grad_norm": report.grad_norm,
        "health/skipped_steps": report.skipped,
        "train/rate": report.train_rate_nats,
        "train/distortion": report.train_distortion_nats,
        "train/neg_elbo": report.train_rate_nats + report.train_distortion_nats,
        "sched/kl_weight": report.kl_weight,
        "sched/beta": report.beta,
        "sched/lr": report.lr,
        "time/epoch_seconds": report.seconds,
    }
    return [Metric(key, value, moment, report.epoch) for key, value in _finite(pairs)]


def moment_of(report: EpochReport) -> int:
    """When an epoch ended, in MLflow's milliseconds.

    Not the time of sending: MLflow leaves out a number that it has with the same step and time. So
    an epoch that two processes send is shown once, whenever the request of the first arrives.
    """
    return int(1000 * (report.ended_at or time.time()))


def final_scores(result: TrialResult) -> list[tuple[str, float]]:
    """Scores of the best epoch."""
    appraisal = {f"score/{name}": value for name, value in result.appraisal.items()}
    return _finite((_score(result.best) if result.best else {}) | appraisal)


def _score(report: EpochReport) -> dict[str, float]:
    return {
        "score/bits_per_dim": report.bits_per_dim,
        "score/bits_per_dim_calibrated": report.bits_per_dim_calibrated,
        "score/rate": report.rate_nats,
        "score/distortion": report.distortion_nats,
        "score/mse": report.mse,
        "score/active_units": report.active_units,
        "score/epoch": report.epoch,
    }


def _finite(pairs: dict[str, float]) -> list[tuple[str, float]]:
    """Six significant digits; what is not finite is told by the verdict, not by a curve."""
    return [(key, float(f"{value:.6g}")) for key, value in pairs.items() if math.isfinite(value)]
