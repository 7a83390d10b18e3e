"""Writes a picture's parameters as text into its PNG, in the format that other WebUIs read, and saves it."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atelier.hosts.contract import SampleRequest

NUMBERED = re.compile(r"^(\d{5,})-")


def parameters_text(request: SampleRequest, model: str, model_hash: str, loras: dict[str, str], version: str) -> str:
    """The text under the PNG key `parameters`. `loras`: name to short hash of each LoRA used."""
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    facts = [
        f"Steps: {request.steps}",
        f"Sampler: {request.sampler}",
        f"CFG scale: {request.cfg_scale:g}",
        f"Seed: {request.seed}",
        f"Size: {request.width}x{request.height}",
        f"Model hash: {model_hash}",
        f"Model: {model}",
    ]
    if loras:
        facts.append('Lora hashes: "' + ", ".join(f"{name}: {value}" for name, value in loras.items()) + '"')
    facts.append(f"Version: atelier {version}")
    lines.append(", ".join(facts))
    return "\n".join(lines)


def save_picture(picture: Image.Image, folder: Path, seed: int, parameters: str) -> Path:
    """Writes `folder/2025-01-31/00001-SEED.png` under the next free number; never over an older one."""
    day = folder / date.today().isoformat()
    day.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    info.add_text("parameters", parameters)
    taken = [int(match.group(1)) for file in day.iterdir() if (match := NUMBERED.match(file.name))]
    number = max(taken, default=0)
    while True:
        number += 1
        path = day / f"{number:05d}-{seed}.png"
        try:
            with path.open("xb") as handle:
                picture.save(handle, format="PNG", pnginfo=info)
        except FileExistsError:
            continue
        return path
