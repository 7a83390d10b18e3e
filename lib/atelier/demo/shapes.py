"""What the demo base knows: scenes of one coloured shape on a plain background, their captions and their pictures.

The grammar of a caption is `[a photo of] a [small|big] COLOUR SHAPE [on a BACKGROUND background]`.
Some pairs of words are held out: the base is never trained on them and is measured on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Outline = np.ndarray
"""Corners of a polygon, (n, 2) as x and y, y pointing down, for a shape of radius about 1 around the origin."""

PICTURE_SIZE = 64
"""Width and height of every picture, in pixels."""

SUPERSAMPLING = 4
"""Masks are drawn this many times larger and averaged down, for smooth edges."""

COLOURS: dict[str, RGB] = {
    "red": (215, 35, 40),
    "green": (35, 155, 65),
    "blue": (45, 75, 215),
    "yellow": (240, 215, 50),
    "purple": (135, 50, 165),
    "orange": (245, 130, 25),
    "cyan": (65, 210, 215),
    "pink": (250, 150, 195),
}
BACKGROUNDS: dict[str, RGB] = {**COLOURS, "white": (245, 245, 245), "gray": (128, 128, 128), "black": (20, 20, 20)}
PLAIN = "white"
"""The background of a caption that names none."""

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
RADII: dict[str | None, tuple[float, float]] = {"small": (13.5, 16.5), "big": (23.5, 26.0), None: (17.0, 24.0)}
"""Size word -> smallest and largest radius in pixels."""

COLOUR_JITTER = 8.0
ANGLE_JITTER = 0.1
MOST_SHIFT = 5.0


@dataclass(frozen=True)
class Scene:
    """One shape on one background; `size` is "small", "big" or None for in between."""

    colour: str
    shape: str
    background: str = PLAIN
    size: str | None = None

    def caption(self, photo: bool = False, name_plain: bool = False) -> str:
        """The words for this scene; `name_plain` says the background even where it is the plain one."""
        words = " ".join(word for word in (self.size, self.colour, self.shape) if word)
        text = f"{_article(words)} {words}"
        if self.background != PLAIN or name_plain:
            text += f" on {_article(self.background)} {self.background} background"
        return f"a photo of {text}" if photo else text


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def all_scenes() -> list[Scene]:
    """Every scene the grammar can say in which the shape can be seen, held-out ones included."""
    return [
        Scene(colour, shape, background, size)
        for colour in COLOURS
        for shape in SHAPES
        for background in BACKGROUNDS
        if background != colour
        for size in RADII
    ]


def is_held_out_shape(scene: Scene) -> bool:
    """Whether this colour with this shape is one of the 8 of 48 pairs never trained on, one for each colour."""
    return list(COLOURS).index(scene.colour) % len(SHAPES) == SHAPES.index(scene.shape)


def is_held_out_background(scene: Scene) -> bool:
    """Whether this colour on this background is one of the 8 of 80 pairs never trained on, one for each colour."""
    backgrounds = [name for name in BACKGROUNDS if name != PLAIN]
    return scene.background == backgrounds[(list(COLOURS).index(scene.colour) + 3) % len(backgrounds)]


def is_held_out(scene: Scene) -> bool:
    """Whether training must not see this scene."""
    return is_held_out_shape(scene) or is_held_out_background(scene)


def _ray_polygon(radii: Sequence[float], first_angle: float) -> Outline:
    """Corners at equal angles around the origin, at the radii given."""
    angles = first_angle + np.arange(len(radii)) * (2 * math.pi / len(radii))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.asarray(radii)[:, None]


def _plus(half_length: float, half_width: float) -> Outline:
    """A plus sign: three corners of its upper arm, turned by a quarter three times."""
    long, short = half_length, half_width
    corners = [np.array([(short, -long), (short, -short), (long, -short)])]
    quarter_turn = np.array([[0, -1], [1, 0]])
    for _ in range(3):
        corners.append(corners[-1] @ quarter_turn.T)
    return np.concatenate(corners)


UP = -math.pi / 2
OUTLINES: dict[str, list[Outline]] = {
    "circle": [_ray_polygon([1.0] * 60, UP)],
    "square": [_ray_polygon([1.2] * 4, math.pi / 4)],
    "triangle": [_ray_polygon([1.2] * 3, UP)],
    "star": [_ray_polygon([1.2, 0.5] * 5, UP)],
    "cross": [_plus(1.05, 0.36)],
    "ring": [_ray_polygon([1.0] * 60, UP), _ray_polygon([0.55] * 60, UP)],
}
"""Shape -> its outline, then the outlines of its holes."""


def placed(outline: Outline, centre: tuple[float, float], radius: float, angle: float = 0.0) -> Outline:
    """The outline turned by `angle` radians, scaled to `radius` pixels and moved to `centre` (x, y)."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    return outline @ turn.T * radius + np.asarray(centre)


def polygon_mask(corners: Outline, size: int = PICTURE_SIZE) -> np.ndarray:
    """How much of each pixel the polygon covers: (size, size) float32 in 0…1."""
    canvas = Image.new("L", (size * SUPERSAMPLING, size * SUPERSAMPLING), 0)
    ImageDraw.Draw(canvas).polygon([(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in corners.tolist()], fill=255)
    fine = np.asarray(canvas, dtype=np.float32) / 255
    return fine.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean(axis=(1, 3))


def shape_mask(shape: str, centre: tuple[float, float], radius: float, angle: float = 0.0) -> np.ndarray:
    """Coverage of one of SHAPES, its hole left out: (64, 64) float32 in 0…1."""
    body, *holes = OUTLINES[shape]
    mask = polygon_mask(placed(body, centre, radius, angle))
    for hole in holes:
        mask = mask * (1 - polygon_mask(placed(hole, centre, radius, angle)))
    return mask


def paint(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray | RGB) -> np.ndarray:
    """`picture` (h, w, 3) with `colour` laid over it where `mask` (h, w) says so."""
    cover = mask[..., None]
    return picture * (1 - cover) + np.asarray(colour, dtype=np.float32) * cover


def plain_picture(colour: np.ndarray | RGB) -> np.ndarray:
    """A (64, 64, 3) float32 picture of one colour."""
    return np.broadcast_to(np.asarray(colour, dtype=np.float32), (PICTURE_SIZE, PICTURE_SIZE, 3)).copy()


def to_image(picture: np.ndarray) -> Image.Image:
    """A float picture in 0…255 as an RGB image."""
    return Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8))


def draw(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """A picture of the scene; place, radius, angle and the exact colours are drawn from `rng`."""
    radius = rng.uniform(*RADII[scene.size])
    room = min(MOST_SHIFT, max(0.0, PICTURE_SIZE / 2 - 1.2 * radius - 1))
    x, y = PICTURE_SIZE / 2 + rng.uniform(-room, room, size=2)
    mask = shape_mask(scene.shape, (x, y), radius, rng.uniform(-ANGLE_JITTER, ANGLE_JITTER))
    background = np.asarray(BACKGROUNDS[scene.background]) + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, size=3)
    colour = np.asarray(COLOURS[scene.colour]) + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, size=3)
    return to_image(paint(plain_picture(background), mask, colour))
