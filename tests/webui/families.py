"""Checkpoints of random weights, as small as a WebUI takes them for one of SD1, SD2 or SDXL."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig

from atelier.models.assets import load_tokenizers, released_config
from atelier.models.checkpoints.save import save_checkpoint
from atelier.models.family import Parts
from atelier.models.registry import family_named
from atelier.models.unet.ldm_names import TEXT_PARTS
from atelier.models.views.from_ldm import TEXT_CLASSES
from tests.webui.hosts import Kind, WebUI

BASES = Kind.bases
NARROW, ARCH = 512, "ViT-B-32"
"""The width of OpenCLIP's small text encoder, and what OpenCLIP calls it."""
WIDER = 832
"""SD.Next takes pooled states only from encoders wider than SD1's."""
LDM, SGM = "repositories/stable-diffusion-stability-ai/configs/stable-diffusion", "repositories/generative-models"
CONFIGS = {
    "sd1": "configs/v1-inference.yaml",
    "sd2": f"{LDM}/v2-inference.yaml",
    "sdxl": f"{SGM}/configs/inference/sd_xl_base.yaml",
}
"""The configurations in A1111's and reForge's folders."""
V_SCALING = "sgm.modules.diffusionmodules.denoiser_scaling.VScaling"


def configs(
    family: str, known: bool, width: int, xl_depths: Sequence[int] = Kind.xl_depths
) -> dict[str, dict[str, Any]]:
    """The released configurations made small. `known`: only as far as a WebUI goes by the tensors' shapes.

    Such a one knows a family by the UNet's first width, its width of text and the depths of its transformers, and
    expects the released text encoders and VAE; that the UNet does not grow wider makes it small.
    `width`: that of the text encoder that SD1 lacks, where it is made small. `xl_depths`: see `Kind`.
    """
    found = {part: released_config(family, part) for part in ("unet", "vae", "text_encoder")}
    if family == "sdxl":
        found["text_encoder_2"] = released_config(family, "text_encoder_2")
    unet = found["unet"]
    levels = len(unet["block_out_channels"])
    widths = [320] * levels if known else [64, 128, 256, 256][:levels]
    unet["block_out_channels"] = widths
    unet["attention_head_dim"] = 8 if family == "sd1" else [width // 64 for width in widths]
    if family == "sdxl":
        unet["transformer_layers_per_block"] = list(xl_depths)
    if not known:
        found["vae"]["block_out_channels"] = [32, 64, 128, 128]
        if family != "sd1":
            narrow = found["text_encoder" if family == "sd2" else "text_encoder_2"]
            narrow.update(
                hidden_size=width, intermediate_size=4 * width, num_attention_heads=width // 64,
                num_hidden_layers=11 if family == "sd2" else 12, projection_dim=width,
            )  # fmt: skip
        unet["cross_attention_dim"] = {"sd1": 768, "sd2": width, "sdxl": 768 + width}[family]
        if family == "sdxl":
            unet["projection_class_embeddings_input_dim"] = width + 6 * unet["addition_time_embed_dim"]
    return found


def random_parts(base: str, known: bool, width: int = NARROW, xl_depths: Sequence[int] = Kind.xl_depths) -> Parts:
    """A model of random weights in half precision."""
    family, _, v = base.partition("-")
    made = configs(family, known, width, xl_depths)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(made["unet"])
        vae = AutoencoderKL.from_config(made["vae"])
        texts = [kind(CLIPTextConfig(**made[part])) for part, kind in zip(TEXT_PARTS, TEXT_CLASSES[family])]
    draws = torch.Generator().manual_seed(1)
    for module in (unet, vae, *texts):
        _fill(module, draws)
    prediction = "v_prediction" if v else "epsilon"
    return Parts(family_named(family), unet, texts, load_tokenizers(family), vae, prediction)


def _fill(module: nn.Module, draws: torch.Generator) -> None:
    """Matrices that keep the size of what passes through; no bias is zero, and no two layers are alike."""
    module.to_empty(device="cpu").half()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(False)
        if parameter.ndim > 1:
            spread = 0.02 if "embedding" in name and "linear" not in name else 1 / math.sqrt(parameter[0].numel())
            parameter.normal_(0, spread, generator=draws)
        else:
            parameter.normal_(0, 0.02, generator=draws)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)


def whole_yaml(base: str, folder: Path, small: bool) -> str:
    """One of the WebUI's own configurations for what the base predicts; `small`: with the small checkpoint's sizes."""
    family, _, v = base.partition("-")
    whole = yaml.safe_load((folder / CONFIGS[family]).read_text(encoding="utf-8"))
    model = whole["model"]["params"]
    if family == "sdxl" and v:
        model["denoiser_config"]["params"]["scaling_config"]["target"] = V_SCALING
    elif family == "sd2":
        model["parameterization"] = "v" if v else "eps"
    if small:
        _make_small(family, model)
    return yaml.safe_dump(whole)


def _make_small(family: str, model: dict[str, Any]) -> None:
    model["first_stage_config"]["params"]["ddconfig"]["ch"] = 32
    if family == "sdxl":
        model["network_config"]["params"].update(
            model_channels=64, transformer_depth=[1, 1, 2], context_dim=768 + NARROW, adm_in_channels=NARROW + 6 * 256
        )
        model["conditioner_config"]["params"]["emb_models"][1]["params"]["arch"] = ARCH
        return
    model["unet_config"]["params"]["model_channels"] = 64
    if family == "sd2":
        model["unet_config"]["params"]["context_dim"] = NARROW
        model["cond_stage_config"]["params"]["arch"] = ARCH


def prediction_yaml(base: str) -> str:
    """What a Forge needs beside a checkpoint that predicts v: the one line it looks for."""
    family, _, v = base.partition("-")
    if family == "sdxl":
        scaling = {"target": V_SCALING if v else ""}
        parameters: dict[str, Any] = {"denoiser_config": {"params": {"scaling_config": scaling}}}
    else:
        parameters = {"parameterization": "v" if v else "eps"}
    return yaml.safe_dump({"model": {"params": parameters}})


@contextmanager
def loaded(webui: WebUI, base: str) -> Iterator[str]:
    """The WebUI has a random checkpoint of this base loaded, whose title this gives; afterwards its own again."""
    before = webui.checkpoint()["title"]
    # A live preview is made by a small decoder of the family, which not every WebUI has lying beside it.
    options = {key: value for key, value in webui.ask("/sdapi/v1/options").items() if key == "live_previews_enable"}
    webui.ask("/sdapi/v1/options", dict.fromkeys(options, False))
    path = written(webui, base)
    try:
        assert webui.ask("/sdapi/v1/refresh-checkpoints", {}).status in (200, 204)
        models = webui.ask("/sdapi/v1/sd-models")["answer"]
        title = next(model["title"] for model in models if Path(model["filename"]).name == path.name)
        webui.choose(title)
        yield title
    finally:
        webui.ask("/sdapi/v1/options", options)
        webui.choose(before)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.with_suffix(".yaml").unlink(missing_ok=True)
        webui.ask("/sdapi/v1/refresh-checkpoints", {})


def written(webui: WebUI, base: str) -> Path:
    """A checkpoint of random weights among the WebUI's models, with the configuration that it needs beside it."""
    if webui.kind.takes_folders:
        path = webui.folder / "models" / "Diffusers" / f"atelier-random-{base}"
        save_checkpoint(path, random_parts(base, known=False, width=WIDER))
        return path
    kind = webui.kind
    path = webui.folder / "models" / "Stable-diffusion" / f"atelier-random-{base}.safetensors"
    one_line = kind.states_prediction
    beside = prediction_yaml(base) if one_line else whole_yaml(base, webui.folder, small=not kind.takes_sizes)
    path.with_suffix(".yaml").write_text(beside, encoding="utf-8")
    save_checkpoint(path, random_parts(base, kind.takes_sizes, xl_depths=kind.xl_depths))
    return path
