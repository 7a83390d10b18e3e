"""All adapters of one model: built, attached, trained, saved and loaded as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atelier.adapters.config import NetworkConfig
from atelier.adapters.kind import kind_of
from atelier.adapters.layers.parameter_groups import parameter_groups
from atelier.adapters.layers.targets import Target
from atelier.config.errors import AtelierError
from atelier.models.family import Parts


@dataclass(frozen=True)
class LoadReport:
    """What did not fit when tensors were loaded: names the network lacks values for, and names it does not know."""

    missing: list[str]
    unexpected: list[str]


@dataclass(frozen=True)
class NormReport:
    """Norms after `apply_max_norm`, as 0-d tensors so that reading them is the caller's choice."""

    scaled: Tensor
    mean: Tensor
    largest: Tensor


class Network(nn.Module):
    """The adapters of a model by kohya's names, text encoders first. The base's modules are not part of it."""

    def __init__(self, layers: Iterable[tuple[Target, Any]], config: NetworkConfig, family: str) -> None:
        """`family` is the name of the model's family: it decides how blocks are counted."""
        super().__init__()
        self.config = config
        self.family = family
        self.targets: dict[str, Target] = {}
        self.layers = nn.ModuleDict()
        for target, layer in layers:
            self.targets[target.name] = target
            self.layers[target.name] = layer
        self._multipliers: dict[str, float] = {}
        self._attached = False

    # -- taking part in the model ---------------------------------------------------------------------------------

    def attach(self) -> None:
        """Lets every adapter take part in the model's forward passes. Doing it twice changes nothing."""
        if not self._attached:
            for layer in self.layers.values():
                layer.attach()
            self._attached = True

    def detach(self) -> None:
        """Takes the adapters out; the base's modules are then exactly as they were."""
        for layer in self.layers.values():
            layer.detach()
        self._attached = False

    @contextmanager
    def attached(self) -> Iterator[Network]:
        """Attached inside the `with` block, detached after it on every path."""
        try:
            self.attach()
            yield self
        finally:
            self.detach()

    @property
    def multiplier(self) -> float:
        """How strongly the adapters count; 0 turns them off. Of the UNet, if parts differ."""
        return self._multipliers.get("unet", 1.0)

    @multiplier.setter
    def multiplier(self, value: float) -> None:
        self.set_multipliers(value, value)

    def set_multipliers(self, unet: float, text_encoders: float) -> None:
        """A multiplier for the UNet and one for the text encoders."""
        self._multipliers = {"unet": unet, "text_encoder": text_encoders}
        for name, layer in self.layers.items():
            layer.set_multiplier(unet if self.targets[name].part == "unet" else text_encoders)

    # -- training -------------------------------------------------------------------------------------------------

    def parameter_groups(
        self, unet_lr: float, text_encoder_lrs: Sequence[float] | float | None = None
    ) -> list[dict[str, Any]]:
        """Groups for an optimiser: {"params", "lr", "name"}, text encoders first, as kohya orders them.

        `text_encoder_lrs`: one rate per text encoder; the last one stands for those not given, None for
        `unet_lr`. A rate of 0 drops the group, and its weights then want no gradient. network_args may give
        rates per block (down_lr_weight …) and a ratio for the `up` weights (loraplus_lr_ratio …).
        """
        return parameter_groups(
            self.layers, self.targets, self.config.arguments, self.family, unet_lr, text_encoder_lrs
        )

    @torch.no_grad()
    def apply_max_norm(self, limit: float) -> NormReport:
        """kohya's scale_weight_norms: no layer's (alpha/dim)·up·down keeps a norm above `limit`."""
        results = [layer.limit_norm(limit) for layer in self.layers.values()]
        results = [result for result in results if result is not None]
        if not results:
            raise AtelierError("scale_weight_norms has no meaning for this kind of adapter; leave it empty.")
        norms = torch.stack([norm for norm, _ in results])
        scaled = torch.stack([was for _, was in results]).sum()
        return NormReport(scaled, norms.mean(), norms.max())

    # -- tensors --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def state_tensors(self, dtype: torch.dtype | None = torch.float32) -> dict[str, Tensor]:
        """Copies on the CPU under kohya's names, with `alpha` as a 0-d tensor; `dtype` None keeps fp32."""
        tensors: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            for key, tensor in layer.saved().items():
                copy = tensor.detach().to("cpu", dtype or tensor.dtype, copy=True).contiguous()
                tensors[f"{name}.{key}"] = copy
            if layer.alpha is not None:
                tensors[f"{name}.alpha"] = torch.tensor(float(layer.alpha), dtype=dtype or torch.float32)
        return tensors

    @torch.no_grad()
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> LoadReport:
        """Takes over values under kohya's names, alphas included.

        Raises `AtelierError` when a tensor has another shape than the network's, before anything is changed.
        """
        known: dict[str, Tensor] = {}
        others: set[str] = set()
        for name, layer in self.layers.items():
            known.update({f"{name}.{key}": tensor for key, tensor in layer.tensors().items()})
            others |= {f"{name}.alpha", *(f"{name}.{key}" for key in layer.saved())}
        for name, tensor in known.items():
            if name in tensors and tuple(tensors[name].shape) != tuple(tensor.shape):
                raise AtelierError(
                    f"{name} is {list(tensors[name].shape)} in the file, but {list(tensor.shape)} is trained here: "
                    "its rank or base is another. Set network_dim (and conv_dim) to the file's, or dim_from_weights."
                )
        for name, tensor in known.items():
            if name in tensors:
                tensor.copy_(tensors[name])
        for name, layer in self.layers.items():
            if any(f"{name}.{key}" in tensors for key in layer.tensors()):
                alpha = tensors.get(f"{name}.alpha")
                layer.loaded(None if alpha is None else float(alpha))
        return LoadReport(
            missing=sorted(name for name in known if name not in tensors),
            unexpected=sorted(name for name in tensors if name not in known and name not in others),
        )

    def trained_tensors(self) -> dict[str, Tensor]:
        """The weights themselves (not copies) in full precision, by name: what a resumable state holds."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    @torch.no_grad()
    def load_trained_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what `trained_tensors` gave. Raises `AtelierError` when names or shapes differ."""
        own = dict(self.named_parameters())
        if set(own) != set(tensors) or any(own[name].shape != tensors[name].shape for name in own):
            raise AtelierError(
                "The saved state belongs to a network of another rank or kind; start the run anew, or set the "
                "network settings to what they were."
            )
        for name, parameter in own.items():
            parameter.copy_(tensors[name])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("A network takes part in its model's forward pass; it has none of its own.")


def build(parts: Parts, config: NetworkConfig, seed: int = 0) -> Network:
    """Adapters for every layer that `config` asks for, not attached yet. `seed` decides the initial values.

    Each layer draws from one generator in the order of the layers; the global generators are not touched.
    Raises `AtelierError` when no layer is left to adapt, when network_module or network_args ask for something
    unknown, or when the kind needs a package that is missing.
    """
    layers = kind_of(config).layers(parts, config, seed)
    if not layers:
        raise AtelierError("The network has no layer: neither the UNet nor the text encoder is to be trained.")
    return Network(layers, config, parts.family.name)
