"""A trained model as source code that needs torch and nothing else.

`torch.export` traces what a model does into a list of torch's own operators, whatever classes it
was written with. That list is written out as Python, one line an operator. The archives of
`torch.export.save` are not used: reading one may run pickled code, and torch does not promise
that its later versions read it.

References:
    | torch.export.load, both warnings
    | https://docs.pytorch.org/docs/stable/export.html
"""

import contextlib
import inspect
import io
import json
import logging
import math
import operator
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.vae import VAE
from tune_vae.service import portable

__all__ = [
    "WEIGHTS_FILE",
    "UntraceableError",
    "check",
    "pictured",
    "source_of",
    "units_of",
    "usage_of",
]

WEIGHTS_FILE = "model.safetensors"
TRACED_EXAMPLES = 3
CHECKED_EXAMPLES = (1, 2, 37)
TOLERANCE = 1e-3
"""Relative; means of counts, exponentials of large numbers, are no more exact than that. Where a
trace took another way than the model, it is off by far more."""
UNBROKEN = "\u00a0"
"""A space at which no line is broken."""


class UntraceableError(Exception):
    """A model that cannot be written in torch's own operators. The message says why."""


@dataclass(frozen=True)
class _Task:
    """Something that a model does and its module shall do.

    Arguments:
        does: It, as a function of the model and the inputs.
        inputs: Their names.
        says: What is answered.
    """

    does: Callable[..., Any]
    inputs: tuple[str, ...]
    says: str


TASKS = {
    "encode": _Task(
        VAE.encode,
        ("x",),
        "Means and log-variances of the latents of examples, [n, LATENTS] each.",
    ),
    "decode": _Task(
        lambda vae, latent, label=None: vae.likelihood.mean(vae.decode(latent, label_B=label)),
        ("latent",),
        "Expected examples for latents [n, LATENTS].",
    ),
    "reconstruct": _Task(
        VAE.reconstruct, ("x",), "Expected examples for the means that `encode` gives."
    ),
    "draw": _Task(
        lambda vae, normal, uniform: vae.expected().draw(normal, uniform),
        ("normal", "uniform"),
        "Latents of the prior from normal noise [n, LATENTS] and uniform noise [n].",
    ),
}

LABELLED = ("encode", "decode", "reconstruct")
"""What a conditional model does with labels."""


def _tasks(vae: VAE) -> dict[str, _Task]:
    if not vae.classes:
        return TASKS
    return {
        name: replace(
            task,
            inputs=(*task.inputs, "labels"),
            says=f"{task.says[:-1]}; `labels`: the class of each.",
        )
        if name in LABELLED
        else task
        for name, task in TASKS.items()
    }


HEAD = '''\
"""{title}

    python model.py                       # {demo}

    import model
{usage}

{units}
Needs torch and nothing else; runs on the CPU in float32. `encode`, `decode`, `reconstruct` and
`draw` are a trace of the network, one line an operator.
"""

{imports}
from pathlib import Path

import torch
from torch import Tensor

SHAPE, LATENTS, LEVELS, CLASSES = {shape}, {latents}, {levels}, {classes}
aten = torch.ops.aten
'''

USAGE = """\
x = model.sample(16, seed=1)          # expected examples, {axes}
mean, log_variance = model.encode(x)  # of their latents, [16, {latents}] each
again = model.reconstruct(x)          # expected examples for those means"""

USAGE_LABELLED = """\
labels = [0, 1] * 8                           # classes, from 0 to {last}
x = model.sample(16, seed=1, labels=labels)   # expected examples, {axes}
mean, log_variance = model.encode(x, labels)  # of their latents, [16, {latents}] each
again = model.reconstruct(x, labels)          # expected examples for those means"""

COMPOSED = '''\
def reconstruct({given}) -> Tensor:
    """{says}"""
    return decode(encode({names})[0]{labels})
'''

SAMPLE = '''\
WEIGHTS = read_weights(Path(__file__).with_name("{weights}"))


def sample(count: int, seed: int = 0) -> Tensor:
    """Expected examples for latents that are drawn from the prior."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, LATENTS, generator=generator)
    return decode(draw(normal, torch.rand(count, generator=generator)))
'''

SAMPLE_LABELLED = '''\
WEIGHTS = read_weights(Path(__file__).with_name("{weights}"))


def sample(count: int, seed: int = 0, labels: Tensor | list[int] | None = None) -> Tensor:
    """Expected examples for latents that are drawn from the prior; by default of each class."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, LATENTS, generator=generator)
    latent = draw(normal, torch.rand(count, generator=generator))
    return decode(latent, torch.arange(count) % CLASSES if labels is None else labels)
'''

MAIN = """\
if __name__ == "__main__":
    {demo}
"""


def source_of(vae: VAE, title: str, *, levels: int | None) -> str:
    """The text of a module that does what a model does, with the weights of its state.

    Arguments:
        vae: In evaluation mode, on the CPU.
        title: What the module is, in a line.
        levels: Of the data; None for counts.

    Raises:
        UntraceableError: What the model does depends on its input in more than numbers, or it
            uses operators that torch alone does not have.
    """
    pictures = pictured(vae.shape, levels)
    borrowed: list[Callable[..., Any]] = [portable.read_weights]
    borrowed += [portable.known_labels] if vae.classes else []
    borrowed += [portable.to_levels] if levels else []
    borrowed += [portable.save_png] if pictures else []
    demo = 'save_png(sample(64), "samples.png")' if pictures else "print(sample(64))"
    parts = [
        *map(inspect.getsource, borrowed),
        (SAMPLE_LABELLED if vae.classes else SAMPLE).format(weights=WEIGHTS_FILE),
        *(_function(vae, name, task, levels) for name, task in _tasks(vae).items()),
        MAIN.format(demo=demo),
    ]
    modules = [name for name in ("json", "operator", "struct", "zlib") if _uses(parts, name)]
    head = HEAD.format(
        title=title,
        demo="64 samples as samples.png" if pictures else "64 samples",
        usage=textwrap.indent(usage_of(vae.shape, vae.latent_dim, vae.classes), " " * 4),
        units=units_of(levels),
        imports="\n".join(f"import {name}" for name in modules),
        shape=vae.shape,
        latents=vae.latent_dim,
        levels=levels,
        classes=vae.classes,
    )
    return "\n\n".join([head, *parts])


def usage_of(shape: tuple[int, int, int], latents: int, classes: int) -> str:
    """How the module is used, in three lines of Python, or four with labels."""
    text = USAGE_LABELLED if classes else USAGE
    axes = ", ".join(map(str, (16, *shape)))
    return text.format(axes=f"[{axes}]", latents=latents, last=classes - 1)


def pictured(shape: tuple[int, int, int], levels: int | None) -> bool:
    """Whether examples can be shown as they are."""
    return levels is not None and shape[0] in (1, 3)


def units_of(levels: int | None) -> str:
    """What the numbers of examples are, in words."""
    if levels is None:
        return "Examples are counts, as float32; expected ones are no whole numbers."
    top = levels - 1
    return (
        f"Examples are float32 in [0, 1], levels 0 to {top} divided by {top}; "
        "`to_levels(x, LEVELS)`\ngives their levels as uint8."
    )


@torch.no_grad()
def check(file: Path, vae: VAE, *, levels: int | None) -> None:
    """Run a module beside its weights, and compare what it answers with the model itself.

    Raises:
        UntraceableError: It answers otherwise for some number of examples. A trace takes the way
            that one input took; what a network decides by its input is lost.
    """
    module: dict[str, Any] = {"__name__": "model", "__file__": str(file)}
    code = compile(file.read_text(encoding="utf-8"), str(file), "exec")
    exec(code, module)
    for count in CHECKED_EXAMPLES:
        likely = _likely(vae, count, levels)
        for name, task in _tasks(vae).items():
            given = [likely[one] for one in task.inputs]
            mine = task.does(vae, *given)
            try:
                torch.testing.assert_close(
                    module[name](*given), mine, rtol=TOLERANCE, atol=1e-5, equal_nan=True
                )
            except Exception as error:
                what = f"its trace of `{name}` answers {count} otherwise"
                raise UntraceableError(f"{what}: {_brief(error)}") from error


def _uses(parts: list[str], module: str) -> bool:
    return any(f"{module}." in part for part in parts)


class _Traceable(nn.Module):
    """A task of a model, as `torch.export` wants it."""

    def __init__(self, vae: VAE, task: _Task) -> None:
        super().__init__()
        self.vae, self.task = vae, task

    def forward(self, *given: Tensor) -> Any:
        return self.task.does(self.vae, *given)


@torch.no_grad()
def _traced(vae: VAE, task: _Task, levels: int | None) -> ExportedProgram:
    likely, any_number = _likely(vae, TRACED_EXAMPLES, levels), {0: Dim("examples")}
    given = tuple(likely[name] for name in task.inputs)
    shapes = {"given": (any_number,) * len(given)}
    try:
        with _quiet():
            return torch.export.export(_Traceable(vae, task), given, dynamic_shapes=shapes)
    except Exception as error:
        # A network may be the user's own, and raise anything.
        raise UntraceableError(_brief(error)) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch tells its own developers of a trace that fails."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _brief(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _likely(vae: VAE, count: int, levels: int | None) -> dict[str, Tensor]:
    """Inputs of the kind that the tasks are for, by name."""
    generator = torch.Generator().manual_seed(0)
    # Samples of the model, which stand for examples.
    x = vae.generate(count)
    return {
        "x": x.clamp(0, 1) if levels else x.round(),
        "latent": vae.imagine(count),
        "normal": torch.randn(count, vae.latent_dim, generator=generator),
        "uniform": torch.rand(count, generator=generator),
        "labels": torch.arange(count) % max(1, vae.classes),
    }


def _function(vae: VAE, name: str, task: _Task, levels: int | None) -> str:
    """The text of a function: a trace, unless others say it all."""
    told = type(vae.likelihood).conditioned is not Likelihood.conditioned
    given = ", ".join(
        f"{one}: Tensor | list[int]" if one == "labels" else f"{one}: Tensor"
        for one in task.inputs
    )
    if name == "reconstruct" and not told:
        labels = ", labels" if "labels" in task.inputs else ""
        return COMPOSED.format(
            says=task.says, given=given, names=", ".join(task.inputs), labels=labels
        )
    program = _traced(vae, task, levels)
    graph = program.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and "_assert_" in str(node.target):
            graph.erase_node(node)
    graph.eliminate_dead_code()
    names, body = _inputs(task, program), []
    if "labels" in task.inputs:
        body.append(f"labels = known_labels(labels, len({task.inputs[0]}), CLASSES)")
    for node in graph.nodes:
        if node.op == "call_function":
            body.append(f"{node.name} = {_call(node, names)}")
        elif node.op == "output":
            body.append(f"return {', '.join(_text(value, names) for value in node.args[0])}")
        elif node.op != "placeholder":
            raise UntraceableError(f"a part of it is no operator: {node.target}")
    answer = "Tensor" if len(program.graph_signature.user_outputs) == 1 else "tuple[Tensor, ...]"
    head = [f"def {name}({given}) -> {answer}:", textwrap.indent(_docstring(task.says), " " * 4)]
    return "\n".join([*head, *map(_wrapped, body)]) + "\n"


def _docstring(says: str) -> str:
    return textwrap.fill(f'"""{says}"""', width=95)


def _wrapped(line: str) -> str:
    filled = textwrap.fill(
        line,
        width=95,
        initial_indent=" " * 4,
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace(UNBROKEN, " ")


def _inputs(task: _Task, program: ExportedProgram) -> dict[str, str]:
    """What stands in the text for each input of a trace."""
    given, names = iter(task.inputs), {}
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            text = next(given)
        elif spec.target in program.state_dict:
            text = f"WEIGHTS[{json.dumps(spec.target.removeprefix('vae.'))}]"
        elif spec.target in program.constants:
            constant = program.constants[spec.target]
            text = f"torch.tensor({constant.tolist()}, dtype={constant.dtype})"
        else:
            raise UntraceableError(f"a part of it is no tensor: {spec.target}")
        names[spec.arg.name] = text
    return names


def _call(node: Node, names: dict[str, str]) -> str:
    target = node.target
    args = [_text(one, names) for one in node.args]
    if target is operator.getitem:
        return f"{args[0]}[{args[1]}]"
    args += [f"{key}={_text(value, names)}" for key, value in node.kwargs.items()]
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return f"{target}({', '.join(args)})"
    name = getattr(target, "__name__", "")
    if getattr(operator, name, None) is target:
        return f"operator.{name}({', '.join(args)})"
    raise UntraceableError(f"torch alone has no operator {target}")


def _text(value: Any, names: dict[str, str]) -> str:
    """An argument as Python writes it."""
    if isinstance(value, Node):
        return names.get(value.name, value.name)
    if isinstance(value, list | tuple):
        return f"[{f',{UNBROKEN}'.join(_text(one, names) for one in value)}]"
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    plain = (bool, int, float, str, torch.dtype, torch.layout, torch.memory_format)
    if value is None or isinstance(value, plain):
        return repr(value)
    raise UntraceableError(f"an operator of it is given a {type(value).__name__}")
