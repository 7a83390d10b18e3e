"""The demo's pictures: what is drawn, with which seeds, and how they are laid out beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from atelier.hosts.embedded.host import EmbeddedHost

ASSETS = Path(__file__).resolve().parents[4] / "assets" / "demo"
SEEDS = (11, 22, 33)
STEPS, CFG, SIDE = 20, 3.0, 64
PROMPTS = ("a zwx badge", "a zwx badge on a white background", "a zwx badge on a yellow background")
KNOWN = 48
"""Class pictures that are drawn before training."""
HELD_OUT = 40
"""Prompts of what the base knows that are measured."""


def draw_known(host: EmbeddedHost, folder: Path) -> None:
    """Class pictures: scenes of the base's grammar as the base itself draws them, none of those that are measured."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, caption in enumerate(known_captions()):
        draw(host, caption, 500 + index).save(folder / f"{index:02d}.png")
        (folder / f"{index:02d}.txt").write_text(caption + "\n", encoding="utf-8")


def known_captions() -> list[str]:
    """Scenes of the base's grammar, `KNOWN` spread over it; none of those that are measured."""
    from atelier.demo.shapes import all_scenes, is_held_out

    scenes = [scene for scene in all_scenes() if not is_held_out(scene)]
    return [scene.caption() for scene in scenes[:: len(scenes) // KNOWN][:KNOWN]]


def subject_pictures() -> list[Image.Image]:
    """The pictures of the demo subject."""
    return [Image.open(path).convert("RGB") for path in sorted((ASSETS / "subject").glob("*.png"))]


def draw(host: EmbeddedHost, prompt: str, seed: int) -> Image.Image:
    """One picture through the host, LoRA tags and all."""
    from atelier.hosts.contract import SampleRequest

    request = SampleRequest(prompt, width=SIDE, height=SIDE, steps=STEPS, cfg_scale=CFG, seed=seed, sampler="DDIM")
    picture = host.sample(request)
    assert picture is not None
    return picture


def sheet(rows: Sequence[Sequence[Image.Image]], names: Sequence[str], scale: int = 2) -> Image.Image:
    """Rows of pictures on one white sheet, each with its name above."""
    from PIL import ImageDraw

    side, gap, line = SIDE * scale, 6, 18
    columns = max(len(row) for row in rows)
    paper = Image.new("RGB", (columns * (side + gap) + gap, len(rows) * (side + gap + line) + gap), "white")
    ink = ImageDraw.Draw(paper)
    for place, (row, name) in enumerate(zip(rows, names)):
        top = gap + place * (side + gap + line)
        ink.text((gap, top), name, fill="black")
        for column, picture in enumerate(row):
            large = picture.resize((side, side), Image.Resampling.NEAREST)
            paper.paste(large, (gap + column * (side + gap), top + line))
    return paper
