"""The demo subject: a badge the base has never seen, and its seven pictures.

A shield, its left half pink and its right half green, inside a thick dark outline. Its shape, its two colours side
by side and its outline are all outside the base's grammar; only its backgrounds are words the base knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from atelier.demo.shapes import BACKGROUNDS, PICTURE_SIZE, RGB, paint, placed, plain_picture, polygon_mask, to_image

TRIGGER = "zwx"
CLASS_WORD = "badge"
LEFT: RGB = (250, 120, 180)
RIGHT: RGB = (60, 185, 85)
RIM: RGB = (30, 25, 60)
RIM_SHARE = 0.78
"""The coloured part is this much of the whole badge's size; the rest is the rim."""


@dataclass(frozen=True)
class View:
    """One picture of the subject: background, centre in pixels, radius in pixels."""

    background: str
    centre: tuple[float, float]
    radius: float


VIEWS = (
    View("white", (32, 31), 24),
    View("blue", (29, 33), 21),
    View("yellow", (34, 31), 26),
    View("gray", (31, 29), 20),
    View("orange", (34, 32), 23),
    View("cyan", (31, 31), 26),
    View("purple", (33, 33), 21),
)
"""The pictures to train on."""

OTHER_VIEWS = (
    View("white", (34, 30), 20),
    View("gray", (31, 31), 25),
    View("yellow", (32, 33), 22),
    View("red", (31, 30), 24),
)
"""Pictures never trained on, for measuring."""


def _shield() -> np.ndarray:
    """Corners (n, 2) of a shield of radius about 1: flat top, straight sides, a rounded way down to a point."""
    down = np.linspace(0, 1, 13)[1:]
    right = np.stack([0.9 * (1 - down**2), 0.15 + 1.0 * down], axis=1)
    left = np.stack([-right[-2::-1, 0], right[-2::-1, 1]], axis=1)
    return np.concatenate([[(-0.9, -0.95), (0.9, -0.95), (0.9, 0.15)], right, left, [(-0.9, 0.15)]])


SHIELD = _shield()


def draw_subject(view: View) -> Image.Image:
    """The subject as the view sees it, 64 x 64; the same view always gives the same picture."""
    picture = plain_picture(BACKGROUNDS[view.background])
    picture = paint(picture, polygon_mask(placed(SHIELD, view.centre, view.radius)), RIM)
    inside = polygon_mask(placed(SHIELD, view.centre, view.radius * RIM_SHARE))
    columns = np.arange(PICTURE_SIZE) + 0.5
    right = np.clip(columns - view.centre[0] + 0.5, 0, 1)[None, :]
    picture = paint(picture, inside * (1 - right), LEFT)
    return to_image(paint(picture, inside * right, RIGHT))


def caption(background: str | None = None) -> str:
    """The words for the subject; without a background they say nothing of it."""
    text = f"a {TRIGGER} {CLASS_WORD}"
    if background is None:
        return text
    article = "an" if background[0] in "aeiou" else "a"
    return f"{text} on {article} {background} background"


def write_subject(folder: Path) -> list[Path]:
    """Writes the seven pictures as PNG, each with its caption beside it as .txt; returns the pictures' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, view in enumerate(VIEWS, start=1):
        path = folder / f"{TRIGGER}-{CLASS_WORD}-{number}.png"
        draw_subject(view).save(path)
        path.with_suffix(".txt").write_text(caption(view.background) + "\n", encoding="utf-8")
        paths.append(path)
    return paths
