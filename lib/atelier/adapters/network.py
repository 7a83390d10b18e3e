"""A network: all adapters of one model, which are built, attached, trained, saved and loaded together."""

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
from atelier.config.settings.schema import labelled
from atelier.models.family import Parts


@dataclass(frozen=True)
class LoadReport:
    """The result of loading tensors: names that the file lacks, and names that the network does not know."""

    missing: list[str]
    unexpected: list[str]


@dataclass(frozen=True)
class NormReport:
    """Norms after `apply_max_norm`, as 0-d tensors: reading them waits for the GPU, which is the caller's choice."""

    scaled: Tensor
    mean: Tensor
    largest: Tensor


class Network(nn.Module):
    """The adapters of a model by kohya's names, text encoders first. It does not contain the base's modules."""

    def __init__(self, layers: Iterable[tuple[Target, Any]], config: NetworkConfig, family: str) -> None:
        """`family` is the name of the model family, which decides how blocks are counted."""
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
        """Adds every adapter to the model's forward pass. A second call changes nothing."""
        if not self._attached:
            for layer in self.layers.values():
                layer.attach()
            self._attached = True

    def detach(self) -> None:
        """Removes the adapters. The base's modules are then exactly as they were."""
        for layer in self.layers.values():
            layer.detach()
        self._attached = False

    @contextmanager
    def attached(self) -> Iterator[Network]:
        """Attaches the network inside the `with` block, and detaches it afterwards, even after an error."""
        try:
            self.attach()
            yield self
        finally:
            self.detach()

    @property
    def multiplier(self) -> float:
        """The adapters' strength; 0 turns them off. That of the UNet, if the parts differ."""
        return self._multipliers.get("unet", 1.0)

    @multiplier.setter
    def multiplier(self, value: float) -> None:
        self.set_multipliers(value, value)

    def set_multipliers(self, unet: float, text_encoders: float) -> None:
        """Sets the multipliers of the UNet and of the text encoders."""
        self._multipliers = {"unet": unet, "text_encoder": text_encoders}
        for name, layer in self.layers.items():
            layer.set_multiplier(unet if self.targets[name].part == "unet" else text_encoders)

    # -- training -------------------------------------------------------------------------------------------------

    def parameter_groups(
        self, unet_lr: float, text_encoder_lrs: Sequence[float] | float | None = None
    ) -> list[dict[str, Any]]:
        """Groups for an optimizer: {"params", "lr", "name"}, text encoders first, in kohya's order.

        `text_encoder_lrs`: a learning rate per text encoder. The last one is used for further encoders; None means
        `unet_lr`. A learning rate of 0 drops the group, and its weights then get no gradient. network_args may have
        factors per block (down_lr_weight …) and a ratio for the `up` weights (loraplus_lr_ratio …).
        """
        return parameter_groups(
            self.layers, self.targets, self.config.arguments, self.family, unet_lr, text_encoder_lrs
        )

    @torch.no_grad()
    def apply_max_norm(self, limit: float) -> NormReport:
        """kohya's scale_weight_norms: scales each layer so that the norm of (alpha/dim)·up·down is at most `limit`."""
        results = [layer.limit_norm(limit) for layer in self.layers.values()]
        results = [result for result in results if result is not None]
        if not results:
            raise AtelierError(f"{labelled('scale_weight_norms')} cannot be used with this kind of adapter; empty it.")
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
        """Loads values under kohya's names, including alphas.

        Raises `AtelierError` when a tensor has another shape than in the network. Nothing is changed then.
        """
        known: dict[str, Tensor] = {}
        others: set[str] = set()
        for name, layer in self.layers.items():
            known.update({f"{name}.{key}": tensor for key, tensor in layer.tensors().items()})
            others |= {f"{name}.alpha", *(f"{name}.{key}" for key in layer.saved())}
        for name, tensor in known.items():
            if name in tensors and tuple(tensors[name].shape) != tuple(tensor.shape):
                raise AtelierError(
                    f"{name} is {list(tensors[name].shape)} in the file, but {list(tensor.shape)} in this run: the "
                    f"rank or the base model differs. Use the file's rank: set {labelled('network_dim')} and "
                    f"{labelled('conv_dim')} to it, or switch {labelled('dim_from_weights')} on."
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
        """The trained weights by name, in full precision, for a state to resume from. They are not copied."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    @torch.no_grad()
    def load_trained_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores weights from `trained_tensors`. Raises `AtelierError` when names or shapes differ."""
        own = dict(self.named_parameters())
        if set(own) != set(tensors) or any(own[name].shape != tensors[name].shape for name in own):
            raise AtelierError(
                "The saved state belongs to a network of another rank or kind. Start a new run, or set the network "
                "settings back to what they were."
            )
        for name, parameter in own.items():
            parameter.copy_(tensors[name])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("A network has no forward pass of its own: attach it to its model.")


def build(parts: Parts, config: NetworkConfig, seed: int = 0) -> Network:
    """Builds the adapters for every layer that `config` asks for, not attached yet. `seed` decides the initial values.

    All layers use one generator, in the order of the layers; torch's global generators are not used. Raises
    `AtelierError` when there is no layer to adapt, when network_module or network_args ask for something unknown, or
    when a package is missing.
    """
    layers = kind_of(config).layers(parts, config, seed)
    if not layers:
        raise AtelierError("There is nothing to train: both the UNet and the text encoder are switched off.")
    return Network(layers, config, parts.family.name)
