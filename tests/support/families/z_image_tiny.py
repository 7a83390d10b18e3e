"""A tiny Z-Image of random weights: its transformer, Qwen3 with a tokenizer of words, and Flux's VAE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from atelier.models.checkpoints.load import load_checkpoint
from atelier.models.family import Parts

try:
    from diffusers import ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model
except ImportError:
    pytest.skip("needs diffusers 0.36 and transformers 4.51", allow_module_level=True)

CONFIG: dict[str, Any] = {
    "dim": 32, "n_heads": 2, "n_kv_heads": 2, "n_layers": 2, "n_refiner_layers": 1, "cap_feat_dim": 24,
    "axes_dims": [4, 6, 6],
}  # fmt: skip
VAE: dict[str, Any] = {
    "latent_channels": 16, "block_out_channels": [8] * 4, "layers_per_block": 1, "norm_num_groups": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 12, "max_position_embeddings": 1024,
}  # fmt: skip
WORDS = ("<pad>", "<|im_start|>", "<|im_end|>", "user", "assistant", "a", "cat", "dog", "zwx", "red", "on", "the")


def modules() -> dict[str, nn.Module]:
    """diffusers' and transformers' own modules by the folder that each has in a pipeline."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made: dict[str, nn.Module] = {
            "transformer": ZImageTransformer2DModel(**CONFIG),
            "text_encoder": Qwen3Model(Qwen3Config(**TEXT)),
            "vae": AutoencoderKL(**VAE),
        }
        with torch.no_grad():
            for module in made.values():
                for parameter in module.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.05)
                module.requires_grad_(False).eval()
    return made


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    found = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<pad>", pad_token="<pad>")
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return found


def write_folder(folder: Path) -> Path:
    """The whole as a diffusers folder."""
    for name, module in modules().items():
        module.save_pretrained(folder / name)  # type: ignore[operator]
    tokenizer().save_pretrained(str(folder / "tokenizer"))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "ZImagePipeline"}), encoding="utf-8")
    return folder


def tiny_z_image(folder: Path) -> Parts:
    """The model as the program reads it."""
    return load_checkpoint(write_folder(folder)).parts
