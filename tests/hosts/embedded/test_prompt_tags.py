"""LoRA tags in prompts."""

from __future__ import annotations

import pytest

from atelier.config.errors import AtelierError
from atelier.hosts.embedded.prompt_tags import LoraTag, split_prompt


@pytest.mark.parametrize(
    ("prompt", "rest", "tags"),
    [
        ("a red circle", "a red circle", []),
        ("a,, b ,  c", "a,, b ,  c", []),
        ("<lora:badge>", "", [LoraTag("badge")]),
        ("a <lora:badge:0.5>, b", "a , b", [LoraTag("badge", 0.5, 0.5)]),
        ("a, <lora:badge:1>, b", "a, b", [LoraTag("badge")]),
        ("a <LORA:my badge v2:-0.5>", "a", [LoraTag("my badge v2", -0.5, -0.5)]),
        ("a <lora:x:0.5:0.8>", "a", [LoraTag("x", unet=0.8, text_encoder=0.5)]),
        ("a <lora:x:te=0:unet=0.7>", "a", [LoraTag("x", unet=0.7, text_encoder=0.0)]),
        ("<lora:x:1> a <lora:y:1> <lora:x:0.2>", "a", [LoraTag("y"), LoraTag("x", 0.2, 0.2)]),
    ],
)
def test_split(prompt: str, rest: str, tags: list[LoraTag]) -> None:
    assert split_prompt(prompt) == (rest, tags)


@pytest.mark.parametrize("prompt", ["<lora:>", "<lora::1>", "<lora:x:much>", "<lora:x:nan>", "<lora:x:inf>"])
def test_a_broken_tag_is_named(prompt: str) -> None:
    with pytest.raises(AtelierError, match=prompt[:6]):
        split_prompt("a picture " + prompt)
