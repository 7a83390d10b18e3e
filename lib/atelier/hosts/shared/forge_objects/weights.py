"""The tensors of Forge's and reForge's models: under which names they are lent, and which of them are copied.

Both keep a model as `forge_objects`: the UNet and the VAE under the names of an LDM file, the text encoders under
transformers' names, OpenCLIP's among them too. Their weights are often inference tensors; the views alias them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from atelier.hosts.shared.borrowed import Borrowed
from atelier.hosts.shared.forge_objects.facts import Facts
from atelier.hosts.shared.forge_objects.model import current
from atelier.hosts.shared.forge_objects.refusals import family_of
from atelier.hosts.shared.ldm_unet import unet_overrides
from atelier.models.assets import load_tokenizers, released_config
from atelier.models.family import Family
from atelier.models.registry import family_named
from atelier.models.text.clip_names import PREFIX, canonical
from atelier.models.unet.ldm_names import TEXT_PARTS, UNET_PREFIX, VAE_PREFIX
from atelier.models.views.from_ldm import Weights, weights_from_ldm

ENCODERS = {"sd1": ("clip_l",), "sd2": ("clip_h",), "sdxl": ("clip_l", "clip_g")}
"""What `forge_objects.clip` calls each family's text encoders."""

PROJECTION = "text_projection.weight"
WRAPPED = "token_embedding.wrapped."


def borrow(parts: frozenset[str], facts_of: Callable[[Any], Facts], device: Callable[[], torch.device]) -> Borrowed:
    """Views over the loaded model's "unet", "text_encoder", "vae", for the device that the WebUI computes on.

    Called inside the queue.
    """
    model = current()
    family = family_named(str(family_of(model)))
    facts = facts_of(model)
    copies = Copies(device)

    def read() -> Weights:
        return read_weights(family, current().forge_objects_original, parts, copies.usable)

    return Borrowed(
        family,
        read,
        lambda: all_tensors(current().forge_objects_original, family.name),
        load_tokenizers(family.name),
        facts.prediction_type,
        facts.zero_terminal_snr,
    )


def image_modules(objects: Any) -> list[tuple[str, nn.Module]]:
    """UNet and VAE with the prefixes that an LDM file gives them."""
    return [
        (UNET_PREFIX, objects.unet.model.diffusion_model),
        (VAE_PREFIX, objects.vae.first_stage_model),
    ]


def text_modules(objects: Any, family: str) -> list[nn.Module]:
    """The family's text encoders, each a CLIP text model with transformers' names."""
    return [getattr(objects.clip.cond_stage_model, name).transformer for name in ENCODERS[family]]


def all_tensors(objects: Any, family: str) -> list[Tensor]:
    """Every tensor that can be lent, in a fixed order."""
    modules = [module for _, module in image_modules(objects)] + text_modules(objects, family)
    found = [parameter for module in modules for parameter in module.parameters()]
    projection = projection_beside(objects, family)
    return found if projection is None else [*found, projection]


def projection_beside(objects: Any, family: str) -> Tensor | None:
    """SDXL's projection of the pooled state [in, out] where it lies beside the text encoder, as in reForge."""
    if family != "sdxl":
        return None
    holder = getattr(objects.clip.cond_stage_model, ENCODERS[family][1])
    found = getattr(holder, "text_projection", None)
    return found if isinstance(found, Tensor) and not hasattr(holder.transformer, "text_projection") else None


def read_weights(
    family: Family, objects: Any, parts: frozenset[str], usable: Callable[[str, Tensor], Tensor]
) -> Weights:
    """The asked parts under diffusers' names. The UNet's tensors are the host's own; the others go through `usable`."""
    found = {
        prefix + name: tensor for prefix, module in image_modules(objects) for name, tensor in module.named_parameters()
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    encoders = [text_tensors(module) for module in text_modules(objects, family.name)]
    beside = projection_beside(objects, family.name)
    if beside is not None:
        encoders[1][PROJECTION] = beside.detach().T
    if family.name == "sdxl":  # from its width follows that of the size conditions
        shapes["conditioner.embedders.1.model.text_projection"] = tuple(encoders[1][PROJECTION].shape)

    def read(name: str) -> Tensor:
        return found[name] if name.startswith(UNET_PREFIX) else usable(name, found[name])

    overrides = unet_overrides(objects.unet.model.diffusion_model)
    weights = weights_from_ldm(family, shapes, read, parts - {"text_encoder"}, overrides)
    if "text_encoder" in parts:
        for index, (part, tensors) in enumerate(zip(TEXT_PARTS, encoders, strict=False)):
            config = encoder_config(family.name, index, tensors)
            weights.configs[part] = config
            weights.tensors[part] = {
                name: usable(f"{part}.{name}", tensor)
                for name, tensor in tensors.items()
                if _belongs(name, config["num_hidden_layers"], projection=index == 1)
            }
    return weights


def text_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A text encoder's tensors under canonical names, without those that wrappers hold a second time."""
    found: dict[str, Tensor] = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        # The wrapper for textual inversions computes with the inner embedding: that one counts.
        plain = name.replace(WRAPPED, "token_embedding.")
        if plain != name or plain not in found:
            found[canonical(plain)] = tensor
    return found


def encoder_config(family: str, index: int, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The configuration of text encoder number `index`, its sizes from the tensors.

    SD2's last layer, which some hosts load, is never used: the released configuration does not count it.
    """
    config = released_config(family, TEXT_PARTS[index])
    embedding = tensors[PREFIX + "embeddings.token_embedding.weight"]
    layers = {name.removeprefix(PREFIX + "encoder.layers.").split(".")[0] for name in tensors if ".layers." in name}
    width = embedding.shape[1]
    config.update(
        vocab_size=embedding.shape[0],
        hidden_size=width,
        max_position_embeddings=tensors[PREFIX + "embeddings.position_embedding.weight"].shape[0],
        num_hidden_layers=min(len(layers), 23) if family == "sd2" else len(layers),
        intermediate_size=tensors[PREFIX + "encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_attention_heads=max(1, width // 64),
    )
    if index == 1:
        config["projection_dim"] = tensors[PROJECTION].shape[0]
    return config


class Copies:
    """Copies of the small parts that the training device cannot compute with as the host keeps them.

    Forge keeps text encoders in fp16 also on a CPU, which cannot compute so, and may leave them or the VAE in its
    memory while the UNet is on the GPU. What the device can use is passed on as it is.
    """

    def __init__(self, device: Callable[[], torch.device]) -> None:
        self._device = device
        self._made: dict[str, tuple[int, Tensor]] = {}

    def usable(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor itself, or its copy in full precision on the training device."""
        device = self._device()
        if tensor.device == device and computable(tensor.dtype, device):
            return tensor
        made = self._made.get(name)
        if made is None or made[0] != tensor.data_ptr() or made[1].device != device:
            kept = tensor.dtype if computable(tensor.dtype, device) else torch.float32
            with torch.inference_mode(False), torch.no_grad():
                made = (tensor.data_ptr(), tensor.to(device=device, dtype=kept, copy=True))
            self._made[name] = made
        return made[1]


def computable(dtype: torch.dtype, device: torch.device) -> bool:
    """True when modules compute with weights of this type there."""
    if device.type == "cpu":
        return dtype in (torch.float32, torch.bfloat16)
    return dtype in (torch.float32, torch.float16, torch.bfloat16)


def _belongs(name: str, layers: int, projection: bool) -> bool:
    if name == PROJECTION:
        return projection
    inside = PREFIX + "encoder.layers."
    if name.startswith(inside):
        return int(name.removeprefix(inside).split(".")[0]) < layers
    return name.startswith(PREFIX)
