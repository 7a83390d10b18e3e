"""Optimizers by kohya's names, each from the library that has it."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from atelier.config.errors import AtelierError, Problem, SettingsError
from atelier.config.packages import release
from atelier.config.settings.schema import labelled
from atelier.training.optim.one_rate import check_one_rate


@dataclass(frozen=True)
class Source:
    """The source of an optimizer: candidates of (module, class), the package to install, and fixed arguments."""

    candidates: tuple[tuple[str, str], ...]
    package: str
    arguments: tuple[tuple[str, Any], ...] = ()


def _bitsandbytes(name: str, **arguments: Any) -> Source:
    return Source((("bitsandbytes.optim", name),), "bitsandbytes", tuple(arguments.items()))


def _kept(name: str) -> Source:
    return Source((("pytorch_optimizer", name),), "pytorch_optimizer")


SOURCES: dict[str, Source] = {
    "adamw": Source((("torch.optim", "AdamW"),), "torch"),
    "adamw8bit": _bitsandbytes("AdamW8bit"),
    "pagedadamw": _bitsandbytes("PagedAdamW"),
    "pagedadamw8bit": _bitsandbytes("PagedAdamW8bit"),
    "pagedadamw32bit": _bitsandbytes("PagedAdamW32bit"),
    "lion": _kept("Lion"),
    "lion8bit": _bitsandbytes("Lion8bit"),
    "pagedlion8bit": _bitsandbytes("PagedLion8bit"),
    "sgdnesterov": Source((("torch.optim", "SGD"),), "torch", (("nesterov", True), ("momentum", 0.9))),
    "sgdnesterov8bit": _bitsandbytes("SGD8bit", nesterov=True, momentum=0.9),
    "adafactor": Source((("transformers.optimization", "Adafactor"),), "transformers"),
    "prodigy": Source((("prodigyopt", "Prodigy"), ("pytorch_optimizer", "Prodigy")), "prodigyopt"),
    "dadaptation": _kept("DAdaptAdam"),
    "dadaptadampreprint": _kept("DAdaptAdam"),
    "dadaptadam": _kept("DAdaptAdam"),
    "dadaptadagrad": _kept("DAdaptAdaGrad"),
    "dadaptadan": _kept("DAdaptAdan"),
    "dadaptadanip": _kept("DAdaptAdan"),
    "dadaptlion": _kept("DAdaptLion"),
    "dadaptsgd": _kept("DAdaptSGD"),
    "radamschedulefree": Source((("schedulefree", "RAdamScheduleFree"),), "schedulefree"),
    "adamwschedulefree": Source((("schedulefree", "AdamWScheduleFree"),), "schedulefree"),
    "sgdschedulefree": Source((("schedulefree", "SGDScheduleFree"),), "schedulefree"),
}


def parse_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """["weight_decay=0.01", "betas=0.9,0.99"] -> keyword arguments; a value is a Python literal, else a string.

    Raises `AtelierError` for a pair without "=".
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise AtelierError(f"The argument {pair!r} must be key=value.")
        try:
            arguments[key.strip()] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # not a Python literal
            arguments[key.strip()] = text.strip()
    return arguments


def import_class(path: str) -> Any:
    """The class at "package.module.Class". Raises `AtelierError`, which names the package to install."""
    module_name, _, class_name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        package = module_name.split(".")[0]
        raise AtelierError(f"{path} needs the package {package}: pip install {package} ({error}).") from error
    except AttributeError as error:
        raise AtelierError(f"The module {module_name} has no class {class_name}.") from error


def optimizer_class(name: str) -> tuple[Any, dict[str, Any]]:
    """The class for kohya's name or "module.Class", and the arguments that the name implies."""
    source = SOURCES.get(name.lower())
    if source is None:
        if "." in name:
            return import_class(name), {}
        if inspect.isclass(getattr(torch.optim, name, None)):
            return getattr(torch.optim, name), {}
        known = ", ".join(sorted(SOURCES))
        raise SettingsError([Problem("optimizer_type", name, f"it can be {known}, or a module.Class")])
    for module_name, class_name in source.candidates:
        try:
            return getattr(importlib.import_module(module_name), class_name), dict(source.arguments)
        except (ImportError, AttributeError):
            continue
    raise AtelierError(
        f"The optimizer {name} needs the package {source.package}, which is not installed: pip install {source.package}"
    )


_IN_KEPT_WORDS = {
    "decouple": "weight_decouple",
    "decoupled_weight_decay": "weight_decouple",
    "use_bias_correction": "bias_correction",
}
"""Arguments of the packages that kohya uses -> their names in pytorch_optimizer."""
_SAYS_NOTHING = frozenset({"log_every", "fsdp_in_use", "use_triton"})
"""Arguments of these packages that do not change the result of training."""


def _in_kept_words(cls: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Renames arguments for pytorch_optimizer, which would silently ignore unknown ones.

    Raises `AtelierError` for an argument that the class does not have.
    """
    known = set(inspect.signature(cls.__init__).parameters) - {"self", "params", "lr", "kwargs"}
    found: dict[str, Any] = {}
    for key, value in arguments.items():
        name = key if key in known else _IN_KEPT_WORDS.get(key, key)
        if name in known:
            found[name] = value
        elif key not in _SAYS_NOTHING:
            raise AtelierError(
                f"{labelled('optimizer_args')}: {cls.__name__} has no argument {key}. It has "
                f"{', '.join(sorted(known))}. Remove {key}."
            )
    return found


_ONE_KERNEL = (torch.optim.Adam, torch.optim.AdamW)
_ON_CPUS = release(torch.__version__) >= (2, 4)
"""True when this torch has fused optimizer kernels for CPUs too."""


def _has_one_kernel(cls: Any, arguments: dict[str, Any], groups: list[dict[str, Any]]) -> bool:
    """True when torch can step all weights in one kernel, and optimizer_args do not choose another implementation."""
    if cls not in _ONE_KERNEL or {"fused", "foreach", "capturable", "differentiable"} & arguments.keys():
        return False
    weights = [weight for group in groups for weight in group["params"]]
    kinds = {"cuda", "cpu"} if _ON_CPUS else {"cuda"}
    return all(weight.device.type in kinds and weight.is_floating_point() for weight in weights)


def by_itself(name: str) -> bool:
    """True for torch's optimizers whose step for one number does not depend on other numbers."""
    return optimizer_class(name)[0] in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def create_optimizer(
    groups: list[dict[str, Any]],
    name: str,
    learning_rate: float,
    pairs: Sequence[str],
    one_kernel: bool = False,
    rate_settings: Sequence[str] = ("unet_lr", "text_encoder_lr"),
) -> torch.optim.Optimizer:
    """An optimizer over parameter groups, each {"params": …, "lr": …}. `pairs` are kohya's optimizer_args.

    `one_kernel`: True allows torch's `fused` kernel, which steps all weights at once. For an adapter's hundreds of
    small weights it is several times as fast, and equal except for rounding. Adafactor with relative steps (kohya's
    default) gets no learning rate. `rate_settings` are the settings that the groups' learning rates come from. Raises
    `AtelierError` when the library refuses the arguments, and for several rates where it needs one.
    """
    cls, arguments = optimizer_class(name)
    arguments.update(parse_arguments(pairs))
    if cls.__module__.split(".")[0] == "pytorch_optimizer" and inspect.isclass(cls):
        arguments = _in_kept_words(cls, arguments)
    rate: float | None = learning_rate
    if name.lower() == "adafactor":
        arguments.setdefault("relative_step", True)
        if arguments["relative_step"]:
            arguments.setdefault("warmup_init", True)
            groups = [{key: value for key, value in group.items() if key != "lr"} for group in groups]
            rate = None
    check_one_rate(name, cls, arguments, groups, rate_settings)
    if one_kernel and _has_one_kernel(cls, arguments, groups):
        arguments["fused"] = True
    try:
        return cls(groups, lr=rate, **arguments)
    except (TypeError, ValueError, NotImplementedError, AssertionError) as error:
        raise AtelierError(f"The optimizer {name} does not accept these arguments: {error}.") from error


def is_schedule_free(optimizer: torch.optim.Optimizer) -> bool:
    """True for schedule-free optimizers, which keep averages of their own and need calls of train() and eval()."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))
