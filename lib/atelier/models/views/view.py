"""Makes diffusers and transformers modules whose parameters are the tensors of another model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from atelier.config.errors import AtelierError, few, shortened
from atelier.models.family import Parts
from atelier.models.text.clip_names import names_of_module
from atelier.models.views.attention import is_replaced, use_sound_attention


def alias(tensor: Tensor) -> Tensor:
    """An ordinary tensor over the same storage: the same memory, no autograd history, `requires_grad` False.

    This works for inference tensors too, whose own views cannot be saved for a backward pass. Raises `AtelierError`
    for tensors without plain memory (meta, quantised, sparse).
    """
    if tensor.device.type == "meta" or tensor.is_quantized or tensor.layout != torch.strided:
        raise AtelierError("A weight of the base model is offloaded or quantised, so its memory cannot be shared.")
    with torch.inference_mode(False), torch.no_grad():
        fresh = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return fresh.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


MOST_LAYERS = 100
_COUNTS = {
    "layers_per_block", "transformer_layers_per_block", "num_hidden_layers", "down_block_types", "up_block_types",
}  # fmt: skip


def build_empty(module_class: type[nn.Module], config: Any) -> nn.Module:
    """A module of `module_class` on the meta device, without memory and without using random numbers.

    `config` is a mapping (diffusers or transformers) or a transformers config object. Raises `AtelierError` for more
    layers than any model has, since building them would take hours.
    """
    if isinstance(config, Mapping):
        for key in _COUNTS & set(config):
            counts = config[key] if isinstance(config[key], (list, tuple)) else [config[key]]
            if any(isinstance(count, int) and count > MOST_LAYERS for count in counts) or len(counts) > MOST_LAYERS:
                raise AtelierError(f"Its configuration has {key} {shortened(repr(config[key]))}, which no model has.")
    with torch.inference_mode(False), torch.device("meta"):
        if hasattr(module_class, "from_config") and isinstance(config, Mapping):
            known = {key: value for key, value in config.items() if not key.startswith("_")}
            return module_class.from_config(known)
        if isinstance(config, Mapping):
            config = module_class.config_class(**config)  # type: ignore[operator]
        if is_replaced():
            config = copy.deepcopy(config)
            config._attn_implementation = "eager"  # in matrix products
        return module_class(config)


def view(module_class: type[nn.Module], config: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A module in eval mode whose parameters share the memory of `tensors`, and nothing else.

    The parameters are new objects with `requires_grad` False, without the hooks, gradients and flags of the original.
    Names of text encoders may be with or without the leading "text_model.". Raises `AtelierError` when a tensor is
    missing, left over, or of another shape than in `config`.
    """
    module = build_empty(module_class, config)
    given = names_of_module(module, tensors)
    wanted = dict(module.named_parameters(remove_duplicate=False))
    buffers = dict(module.named_buffers(remove_duplicate=False))
    missing = sorted(set(wanted) - set(given))
    surplus = sorted(name for name in given if name not in wanted and not name.endswith("position_ids"))
    if missing or surplus:
        raise AtelierError(_mismatch(module_class, missing, surplus))
    for name, parameter in wanted.items():
        tensor = given[name]
        if tuple(tensor.shape) != tuple(parameter.shape):
            raise AtelierError(
                f"{module_class.__name__}: {name} is {list(tensor.shape)}, but its configuration says "
                f"{list(parameter.shape)}; the weights and the configuration are not of the same model."
            )
        owner, leaf = _owner(module, name)
        owner._parameters[leaf] = nn.Parameter(alias(tensor), requires_grad=False)
    device = next(module.parameters()).device
    for name, buffer in buffers.items():
        if buffer.device.type == "meta":
            owner, leaf = _owner(module, name)
            owner._buffers[leaf] = _rebuilt_buffer(name, buffer, device, owner)
    use_sound_attention(module)
    return module.eval()


def view_of(module: nn.Module) -> nn.Module:
    """A view of another module of the same class. It shares the parameters' memory and has no hooks."""
    return view(type(module), module.config, dict(module.named_parameters(remove_duplicate=False)))


def view_parts(parts: Parts) -> Parts:
    """Views of all modules of `parts`, for a host that lends plain diffusers modules."""
    return replace(
        parts,
        denoiser=view_of(parts.denoiser),
        text_encoders=[view_of(encoder) for encoder in parts.text_encoders],
        tokenizers=list(parts.tokenizers),
        vae=None if parts.vae is None else view_of(parts.vae),
    )


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return (module.get_submodule(path) if path else module), leaf


def _rebuilt_buffer(name: str, buffer: Tensor, device: torch.device, owner: nn.Module) -> Tensor:
    """The buffers of these modules: position ids, which are 0, 1, 2 …, and the frequencies of rotated positions."""
    leaf = name.rpartition(".")[2]
    if leaf in ("inv_freq", "original_inv_freq") and hasattr(owner, "config"):
        with torch.inference_mode(False), torch.device("cpu"):
            return getattr(type(owner)(owner.config), leaf).to(device)
    if not name.endswith("position_ids"):
        raise AtelierError(f"The buffer {name} is unknown: this version of the library cannot be used.")
    with torch.inference_mode(False):
        return torch.arange(buffer.shape[-1], device=device).expand(buffer.shape).contiguous()


def _mismatch(module_class: type[nn.Module], missing: list[str], surplus: list[str]) -> str:
    parts = [f"lacks {few(missing)}"] if missing else []
    parts += [f"has {few(surplus)}, which does not belong there"] if surplus else []
    return f"The weights of the {module_class.__name__} are not complete: it {' and '.join(parts)}."
