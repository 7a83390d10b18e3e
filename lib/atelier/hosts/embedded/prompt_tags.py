"""Reads `<lora:NAME:WEIGHT>` tags: the LoRAs that a prompt asks for, and the prompt without the tags."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from atelier.config.errors import AtelierError

TAG = re.compile(r"<lora:([^<>]*)>", re.IGNORECASE)


@dataclass(frozen=True)
class LoraTag:
    """One LoRA of a prompt. `unet` and `text_encoder` are the weights of its two parts."""

    name: str
    unet: float = 1.0
    text_encoder: float = 1.0


def split_prompt(prompt: str) -> tuple[str, list[LoraTag]]:
    """The prompt without LoRA tags, and the tags in their order.

    A tag is `<lora:NAME>`, `<lora:NAME:1>`, `<lora:NAME:TE:UNET>` as in AUTOMATIC1111 (first the text encoder's
    weight, then the UNet's) or `<lora:NAME:te=…:unet=…>`. A LoRA named twice counts once: the last tag wins.
    Raises `AtelierError` for a tag without a name or with a weight that is not a number.
    """
    tags: dict[str, LoraTag] = {}
    for match in TAG.finditer(prompt):
        tag = _read(match.group(1), match.group(0))
        tags.pop(tag.name, None)
        tags[tag.name] = tag
    return (_tidy(TAG.sub("", prompt)) if tags else prompt), list(tags.values())


def _read(body: str, whole: str) -> LoraTag:
    name, *arguments = (part.strip() for part in body.split(":"))
    if not name:
        raise AtelierError(f"The tag {whole} names no LoRA. Write <lora:NAME:1>.")
    named: dict[str, float | None] = {"te": None, "unet": None}
    in_order: list[float] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in named:
            named[key] = _number(value, whole)
        else:
            in_order.append(_number(argument, whole))
    text_encoder = named["te"]
    if text_encoder is None:
        text_encoder = in_order[0] if in_order else 1.0
    unet = named["unet"]
    if unet is None:
        unet = in_order[1] if len(in_order) > 1 else text_encoder
    return LoraTag(name, unet=unet, text_encoder=text_encoder)


def _number(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise AtelierError(f"{text!r} in the tag {whole} must be a number, such as 0.8.")
    return value


def _tidy(prompt: str) -> str:
    """Takes out the commas and blanks that a removed tag leaves behind, and nothing else."""
    prompt = re.sub(r",(\s*,)+", ",", prompt)
    prompt = re.sub(r"[ \t]{2,}", " ", prompt)
    return prompt.strip().strip(",").strip()
