"""Model files in this repository: the configurations of the released models, and the CLIP tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

ASSETS = Path(__file__).resolve().parents[3] / "assets"

PAD_TOKENS = {"sd1": ("<|endoftext|>",), "sd2": ("!",), "sdxl": ("<|endoftext|>", "!")}
"""Padding tokens of each family's text encoders: EOS for CLIP, token 0 for OpenCLIP."""


def released_config(family: str, part: str) -> dict[str, Any]:
    """The configuration of a family's released model. `part`: "unet", "vae", "text_encoder", "text_encoder_2"."""
    path = ASSETS / "configs" / family / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def load_tokenizers(family: str, folder: Path | None = None) -> list[Any]:
    """A tokenizer for each text encoder of the family.

    They are read from `folder`/tokenizer and `folder`/tokenizer_2 of a diffusers model if these have a vocabulary, else
    from the CLIP vocabulary in this repository.
    """
    tokenizers = []
    for index, pad in enumerate(PAD_TOKENS[family]):
        own = None if folder is None else folder / ("tokenizer" if index == 0 else "tokenizer_2")
        if own is not None and (own / "vocab.json").is_file() and (own / "merges.txt").is_file():
            tokenizers.append(CLIPTokenizer.from_pretrained(str(own)))
        else:
            tokenizers.append(CLIPTokenizer.from_pretrained(str(ASSETS / "tokenizer" / "clip"), pad_token=pad))
    return tokenizers
