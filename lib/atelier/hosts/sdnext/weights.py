"""The tensors of SD.Next's pipelines under diffusers' own names, which they nearly have."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.hosts.sdnext.refusals import components
from atelier.models.text.clip_names import canonical
from atelier.models.views.from_ldm import Weights, clip_keys

WRAPPED = ".base_layer."
"""What PEFT, which SD.Next may load LoRAs with, puts into the name of a layer's own weight."""
BESIDE = (".lora_", ".lokr_", ".hada_", ".to_qkv.", ".to_kv.", ".to_added_qkv.")
"""Parts of names that the base does not have: a LoRA's own weights, and projections that were put together."""


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A component's own weights, under the names that its class gives them."""
    found = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        if not any(part in name for part in BESIDE):
            found[name.replace(WRAPPED, ".")] = tensor
    return found


def asked(parts: frozenset[str], name: str) -> bool:
    """True when a component is of what the lease was asked for; "text_encoder" means all of them."""
    return ("text_encoder" if name.startswith("text_encoder") else name) in parts


def read_weights(pipe: Any, parts: frozenset[str]) -> Weights:
    """The asked parts, tensors as they are. Raises `AtelierError` when one is offloaded."""
    weights = Weights()
    for name, module in components(pipe).items():
        if not asked(parts, name):
            continue
        tensors = named_tensors(module)
        if any(tensor.device.type == "meta" for tensor in tensors.values()):
            raise AtelierError("SD.Next is loading or unloading the model. Train when it has finished.")
        weights.tensors[name] = tensors
        weights.configs[name] = config_of(name, module, tensors)
    return weights


def config_of(name: str, module: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """A component's configuration, a text encoder's with the number of words that its embedding has."""
    if not name.startswith("text_encoder"):
        return dict(module.config)
    config = clip_keys(module.config.to_dict())
    for key, tensor in tensors.items():
        if canonical(key).endswith("token_embedding.weight"):
            config["vocab_size"] = tensor.shape[0]
    return config


def all_tensors(pipe: Any) -> list[Tensor]:
    """Every tensor that can be lent, in a fixed order."""
    return [tensor for module in components(pipe).values() for tensor in named_tensors(module).values()]
