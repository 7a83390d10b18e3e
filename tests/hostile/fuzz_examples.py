"""Whole files and requests of every kind that is read, for the fuzzer to begin from."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save

from atelier.training.device.savings import MemorySavings
from atelier.training.progress.state import State, write_state

ROOT = Path(__file__).resolve().parents[2]
LAYER = "lora_unet_mid_block_attentions_0_proj_in"
DATASETS = b"""[general]
shuffle_caption = true
[[datasets]]
resolution = [512, 768]
batch_size = 2
bucket_no_upscale = true
[[datasets.subsets]]
image_dir = "pictures"
num_repeats = 10
class_tokens = "a cat"
[[datasets.subsets]]
image_dir = "reg"
is_reg = true
"""
LYCORIS = b"""enable_conv = true
unet_target_module = ["Transformer2DModel", "ResnetBlock2D"]
unet_target_name = ["conv_in", "time_embedding.linear_1"]
text_encoder_target_module = ["CLIPAttention"]
exclude_name = [".*norm.*"]
use_fnmatch = false
[module_algo_map.FeedForward]
algo = "lokr"
dim = 8
factor = 4
[name_algo_map."time_embedding.*"]
algo = "loha"
"""
CAPTIONS = (
    b"a photo of a zwx cat, sitting, {red|blue} hat, (shiny:1.2)\r\nanother line\r\n",
    "ein Bild, größer, ||| a, b ||| c;;;d\n日本語, тест".encode(),
    "a cat, b".encode("utf-16"),
    b"\xef\xbb\xbfzwx, {{braces}}, caf\xe9",
)
METADATA = b'{"pictures/a.png": {"caption": "a cat", "tags": "cat, red", "train_resolution": [512, 512]}, "b": {}}'
PROMPTS = b"# comment\na cat --n bad --w 512 --h 512 --d 1 --s 20 --l 7.5 --ss ddim\n\na dog --d 3\n"
PROMPTS_TOML = b'[prompt]\nwidth = 64\n[[prompt.subset]]\nprompt = "a cat"\nseed = 1\nscale = 7.5\n'
PROMPTS_JSON = b'[{"prompt": "a cat", "width": 64, "seed": 1, "scale": 7.5}, {"prompt": "b", "negative_prompt": "x"}]'
KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
LYCORIS_KEYS = {
    "hada_w1_a": (4, 2), "hada_w1_b": (2, 4), "hada_w2_a": (4, 2), "hada_w2_b": (2, 4), "dora_scale": (4, 1),
}  # fmt: skip
RECORD = {
    "job.json": [
        b'{"version": 1, "state": "paused", "message": "m", "progress": {"step": 3, "total": 9, "eta": 1.5}, "about": '
        b'{"name": "cat", "trigger": "zwx", "base": {"title": "b", "identity": "i"}, "created": 1.0, "started": 2.0}}'
    ],
    "events.jsonl": [
        b'{"id": 1, "kind": "status", "state": "running", "message": "", "time": 1.5}\n'
        b'{"id": 2, "kind": "sample", "step": 2, "index": 0, "prompt": "a cat", "file": "000002-0.png", "time": 2.5}\n'
        b'{"id": 3, "kind": "saved", "name": "cat", "path": "cat.safetensors", "step": 3, "epoch": 1, "save": "step"}\n'
        b'{"id": 4, "kind": "validation", "step": 3, "loss": 0.25}\n'
    ],
    "losses.jsonl": [b'[1, 0.5, {"unet": 0.0001, "text_encoder": 1e-05}]\n[2, null, {"unet": 0.0001}]\n[3, 0.2, {}]\n'],
}
API_JSON = (
    b'{"settings": {"output_name": "fuzz", "train_data_dir": "PICTURES", "network_dim": 8, "learning_rate": 1e-4}}',
    b'{"settings": {"output_name": "fuzz2", "optimizer_args": ["a=1"], "text_encoder_lr": [1e-5, 0], "seed": 1}, '
    b'"general": {"shuffle_caption": true}, "datasets": [{"resolution": 64, "subsets": [{"image_dir": "PICTURES"}]}]}',
)


def gui_preset() -> bytes:
    with (ROOT / "tests" / "fixtures" / "kohya" / "gui_keys.tsv").open(encoding="utf-8") as file:
        keys = [row[0] for row in csv.reader(file, delimiter="\t") if row][1:]
    values = ("", 1, 0.5, True, "1e-4", "512,512", "Standard", "AdamW8bit", None, "constant", "a b=c")
    preset: dict[str, Any] = {key: values[number % len(values)] for number, key in enumerate(keys)}
    return json.dumps({**preset, "LoRA_type": "Kohya LoCon", "network_dim": 8}, indent=1).encode()


def pictures(kind: str) -> list[bytes]:
    found = []
    for mode in ("RGB", "L", "P", "RGBA", "I;16", "CMYK"):
        made = Image.effect_noise((24, 16), 90)
        image = made.convert("I").convert("I;16") if mode == "I;16" else made.convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 6
        text = PngImagePlugin.PngInfo()
        text.add_text("parameters", "a cat\nSteps: 20, Seed: 1", zip=True)
        file = io.BytesIO()
        more: dict[str, Any] = {"pnginfo": text} if kind == "PNG" else {}
        try:
            image.save(file, kind, **({} if kind in ("BMP", "GIF") else {"exif": exif}), **more)
        except (OSError, ValueError):  # this kind has no such mode
            continue
        found.append(file.getvalue())
    return found


def lora(more: dict[str, tuple[int, ...]] | None = None) -> bytes:
    shapes = more or {"lora_down.weight": (2, 4, 1, 1), "lora_up.weight": (4, 2, 1, 1)}
    tensors = {f"{LAYER}.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    metadata = {
        "ss_network_dim": "2", "ss_network_alpha": "1.0", "ss_network_module": "networks.lora",
        "ss_resolution": "(8, 8)",
        "ss_optimizer": "torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))", "ss_learning_rate": "1e-4",
        "ss_datasets": '[{"resolution": [8, 8], "subsets": [{"img_count": 3, "num_repeats": 1, "image_dir": "x"}]}]',
        "ss_tag_frequency": '{"x": {"cat": 3}}', "ss_dataset_dirs": '{"x": {"n_repeats": 1, "img_count": 3}}',
        "ss_network_args": '{"conv_dim": "4"}', "modelspec.architecture": "stable-diffusion-v1/lora",
    }  # fmt: skip
    return save({**tensors, f"{LAYER}.alpha": torch.tensor(1.0)}, metadata)


def checkpoint() -> bytes:
    names = (
        "model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.out.2.weight",
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
        "first_stage_model.encoder.conv_in.weight",
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    )  # fmt: skip
    return save({name: torch.zeros(4, 4, 3, 3) for name in names})


def pickled(zipped: bool) -> bytes:
    file = io.BytesIO()
    content = {"state_dict": {"model.diffusion_model.a.weight": torch.ones(3)}, "epoch": 1, "global_step": 2}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def state() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        state = State(3, {"a": torch.zeros(3), "b": torch.ones(2, 2)}, {"x": {"dict": [["k", 1]]}, "base": "b"})
        return write_state(Path(name), state).read_bytes()


def savings() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        MemorySavings().keep(Path(name))
        return (Path(name) / "savers.json").read_bytes()


def folder_file() -> bytes:
    config = json.loads((ROOT / "assets" / "configs" / "sd1" / "unet.json").read_text(encoding="utf-8"))
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    return json.dumps({**config, **index, "prediction_type": "epsilon", "hidden_size": 8}).encode()
