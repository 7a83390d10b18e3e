"""LoHa, LoKr, (IA)³, OFT, BOFT and DoRA through lycoris-lora, behind the same interface as our own LoRA."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from atelier.adapters.config import NetworkConfig
from atelier.adapters.kinds.algorithms import FROM_INPUT, decomposed, on_outputs
from atelier.adapters.layers.attachment import attach, detach
from atelier.adapters.layers.targets import Target
from atelier.config.errors import AtelierError
from atelier.config.kohya.network_args import NETWORK_ARGS
from atelier.config.settings.schema import labelled

MODULES = {
    "lora": ("lycoris.modules.locon", "LoConModule"),
    "locon": ("lycoris.modules.locon", "LoConModule"),
    "loha": ("lycoris.modules.loha", "LohaModule"),
    "lokr": ("lycoris.modules.lokr", "LokrModule"),
    "ia3": ("lycoris.modules.ia3", "IA3Module"),
    "diag-oft": ("lycoris.modules.diag_oft", "DiagOFTModule"),
    "boft": ("lycoris.modules.boft", "ButterflyOFTModule"),
}
_SCALED_FIRST = ("lora_up", "hada_w1_a", "lokr_w1", "lokr_w1_a")
"""The factor that is scaled when the norm of the whole product is limited."""


class LycorisLayer(nn.Module):
    """One LyCORIS module. It never changes the base layer itself: a `Chain` asks it for the layer's output."""

    additive = False
    alpha = None
    """None: LyCORIS has its alpha among the saved tensors."""

    def __init__(self, target: nn.Module, inner: Any) -> None:
        super().__init__()
        self._target = (target,)
        self.inner = inner
        inner.org_forward = functools.partial(type(target).forward, target)
        self.multiplier = 1.0

    @property
    def active(self) -> bool:
        return self.multiplier != 0.0

    def set_multiplier(self, multiplier: float) -> None:
        self.multiplier = multiplier
        self.inner.multiplier = multiplier

    def attach(self) -> None:
        attach(self._target[0], self)

    def detach(self) -> None:
        detach(self._target[0], self)

    def add(self, x: Tensor, out: Tensor, batch: int) -> Tensor:
        raise TypeError("A LyCORIS layer replaces its base's output.")

    def replace(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def tensors(self) -> dict[str, Tensor]:
        """The trained weights under LyCORIS' names, without a learned scalar, which is only among the saved tensors."""
        return {name: weight for name, weight in self.inner.named_parameters() if name != "scalar"}

    def saved(self) -> dict[str, Tensor]:
        """The tensors that LyCORIS writes: its weights, alpha, and markers such as `on_input`."""
        return dict(self.inner.state_dict())

    @torch.no_grad()
    def loaded(self, alpha: float | None) -> None:
        """Must be called after the weights were loaded from a file with this alpha."""
        scalar = getattr(self.inner, "scalar", None)
        if isinstance(scalar, nn.Parameter):
            scalar.fill_(1.0)
        if not alpha or not hasattr(self.inner, "alpha"):
            return
        if hasattr(self.inner, "constraint"):
            self.inner.constraint = alpha * self._target[0].weight.shape[0]
        elif hasattr(self.inner, "scale"):
            self.inner.scale *= alpha / float(self.inner.alpha)
        self.inner.alpha.fill_(alpha)

    @torch.no_grad()
    def limit_norm(self, limit: float) -> tuple[Tensor, Tensor] | None:
        """Scales the weight change to a norm of at most `limit`; None for kinds without such a norm."""
        weights = {name.removesuffix(".weight"): weight for name, weight in self.inner.named_parameters()}
        first = next((weights[name] for name in _SCALED_FIRST if name in weights), None)
        if first is None or "dora_scale" in weights:
            return None
        change = self.inner.get_diff_weight(1.0)
        norm = (change[0] if isinstance(change, tuple) else change).norm()
        ratio = (limit / norm.clamp(min=limit / 2)).clamp(max=1.0)
        first.mul_(ratio)
        return norm * ratio, ratio < 1


def lycoris_layers(
    chosen: Sequence[tuple[Target, int, float | None]], kind: str, config: NetworkConfig, seed: int
) -> list[tuple[Target, Any]]:
    """LyCORIS modules of one kind for (layer, dim, alpha).

    LyCORIS takes its initial values from torch's global generator, which is seeded for this and then restored. Raises
    `AtelierError` when the package is missing or refuses its arguments.
    """
    module_class = _module_class(kind)
    options = _options(kind, config)
    accepted = inspect.signature(module_class.__init__).parameters
    options = {key: value for key, value in options.items() if key in accepted}
    layers: list[tuple[Target, Any]] = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' generators as well
        for target, dim, alpha in chosen:
            extra = _for_input(target) if kind == "ia3" and config.arguments.get("preset") == "ia3" else {}
            try:
                inner = module_class(
                    target.name, target.module, 1.0, dim, dim if alpha is None else alpha, **{**options, **extra}
                )
            except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
                raise AtelierError(
                    f"LyCORIS refuses {kind} for {target.name}: {error}. Change {NETWORK_ARGS}, or use a larger "
                    f"{labelled('network_dim')}."
                ) from error
            layer, device = LycorisLayer(target.module, inner), target.module.weight.device
            # Move only if necessary: the fake tensors of the memory prediction cannot be moved.
            layers.append((target, layer if next(inner.parameters()).device == device else layer.to(device)))
    _try(layers, kind)
    return layers


@torch.no_grad()
def _try(layers: Sequence[tuple[Target, LycorisLayer]], kind: str) -> None:
    """Computes one layer of each shape, since some versions of LyCORIS make kinds that they cannot compute."""
    seen: set[tuple[int, ...]] = set()
    for target, layer in layers:
        weight = target.module.weight
        shape = tuple(weight.shape)
        if shape in seen or weight.device.type == "meta":
            continue
        seen.add(shape)
        trained = layer.training
        try:
            with _as_in_training(weight):
                layer.eval().replace(torch.zeros(1, *shape[1:], dtype=weight.dtype, device=weight.device))
        except (RuntimeError, TypeError, ValueError) as error:
            raise AtelierError(
                f"The installed lycoris-lora cannot compute the kind {kind} for {target.name} ({error}). "
                "Install another version (pip install -U lycoris-lora) or choose another kind."
            ) from error
        finally:
            layer.train(trained)


def _as_in_training(weight: Tensor) -> AbstractContextManager[object]:
    """Autocast, as training over a base in half precision has it: adapters are float32 there.

    On a CPU it is bf16, since torch before 2.2 multiplies no fp16 there.
    """
    half = weight.dtype in (torch.float16, torch.bfloat16)
    kind = weight.device.type
    if not half or kind not in ("cpu", "cuda", "xpu"):
        return nullcontext()
    return torch.autocast(kind, dtype=torch.bfloat16 if kind == "cpu" else weight.dtype)


def _module_class(kind: str) -> Any:
    module_name, class_name = MODULES[kind]
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        raise AtelierError(
            f"The kind {kind} needs the package lycoris-lora: pip install lycoris-lora ({error}). "
            f"A plain LoRA (networks.lora as {labelled('network_module')}) does not."
        ) from error
    except AttributeError as error:
        raise AtelierError(f"The installed lycoris-lora has no {class_name}: pip install -U lycoris-lora.") from error


def _options(kind: str, config: NetworkConfig) -> dict[str, Any]:
    arguments = config.arguments

    def yes(*keys: str) -> bool:
        return any(str(arguments.get(key, "")).lower() in ("true", "1", "yes", "on") for key in keys)

    def number(key: str, default: float) -> float:
        try:
            return float(arguments.get(key) or default)
        except ValueError as error:
            raise AtelierError(f"{NETWORK_ARGS}: {key} is {arguments[key]!r}; it must be a number.") from error

    return {
        "dropout": config.dropout,
        "rank_dropout": config.rank_dropout,
        "module_dropout": config.module_dropout,
        "use_tucker": yes("use_tucker", "use_cp", "use_conv_cp"),
        "use_scalar": yes("use_scalar"),
        "decompose_both": yes("decompose_both"),
        "factor": int(number("factor", -1)),
        "rank_dropout_scale": yes("rank_dropout_scale"),
        "constraint": number("constraint", number("constrain", 0)),
        "rescaled": yes("rescaled"),
        "weight_decompose": decomposed(arguments),
        "wd_on_out": on_outputs(arguments),
        "full_matrix": yes("full_matrix"),
        "bypass_mode": yes("bypass_mode") or None,
        "rs_lora": yes("rs_lora"),
        "unbalanced_factorization": yes("unbalanced_factorization"),
        "train_on_input": yes("train_on_input"),
    }


def _for_input(target: Target) -> dict[str, bool]:
    return {"train_on_input": target.path.endswith(FROM_INPUT)}
