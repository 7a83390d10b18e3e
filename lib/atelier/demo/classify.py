"""Reads a picture back into words: which colour, which shape, on which background.

The background is the median colour of the border. The shape is where the picture differs from it; centred and
scaled to a common size it is compared with every shape the renderer can draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from atelier.demo.shapes import ANGLE_JITTER, BACKGROUNDS, COLOURS, PICTURE_SIZE, RGB, SHAPES, shape_mask

BORDER = 3
"""Pixels from the edge that count as background."""

LEAST_CONTRAST = 25.0
"""A picture in which nothing differs from the background by this much (Euclidean, of 441) shows no shape."""

LEAST_OVERLAP = 0.6
"""A shape that overlaps no template by this much is called none of them."""

GRID = 24
"""Masks are compared at GRID x GRID."""

REACH = 2.4
"""Half of the compared window, in root mean square distances of the shape from its centre."""


@dataclass(frozen=True)
class Reading:
    """What a picture shows; None where nothing could be recognised. `overlap` is the best template's, 0…1."""

    colour: str | None
    shape: str | None
    background: str
    overlap: float


def nearest_colour(colour: np.ndarray, table: dict[str, RGB]) -> str:
    """The name in `table` whose RGB is nearest to `colour` (3,) in 0…255."""
    return min(table, key=lambda name: float(np.linalg.norm(np.asarray(table[name]) - colour)))


def border_colour(picture: np.ndarray) -> np.ndarray:
    """Median colour (3,) of the frame of BORDER pixels around a (h, w, 3) picture."""
    inside = np.zeros(picture.shape[:2], dtype=bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    return np.median(picture[~inside], axis=0)


def foreground_mask(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Soft mask (h, w) in 0…1 of what stands out, its colour and the background's; None if nothing does.

    A pixel's value is its place on the line from the background's colour to the shape's.
    """
    background = border_colour(picture)
    distance = np.linalg.norm(picture - background, axis=2)
    strongest = float(np.percentile(distance, 97))
    if strongest < LEAST_CONTRAST:
        return None
    colour = np.median(picture[distance > 0.8 * strongest], axis=0)
    line = colour - background
    mask = np.clip((picture - background) @ line / max(float(line @ line), 1e-6), 0, 1)
    return mask, colour, background


def normalised(mask: np.ndarray) -> np.ndarray:
    """The mask moved to its centre of mass and scaled by its spread, sampled at (GRID, GRID) in 0…1."""
    weight = np.where(mask > 0.5, mask, 0)
    total = float(weight.sum())
    if total < 12:
        return np.zeros((GRID, GRID), dtype=np.float32)
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    y, x = float((weight * rows).sum()) / total, float((weight * columns).sum()) / total
    spread = float(np.sqrt((weight * ((rows - y) ** 2 + (columns - x) ** 2)).sum() / total))
    reach = REACH * spread
    image = Image.fromarray((mask * 255).astype(np.uint8))
    window = image.transform(
        (GRID, GRID), Image.Transform.EXTENT, (x - reach, y - reach, x + reach, y + reach), Image.Resampling.BILINEAR
    )
    return np.asarray(window, dtype=np.float32) / 255


@lru_cache(maxsize=1)
def templates() -> tuple[np.ndarray, tuple[str, ...]]:
    """Normalised masks (count, GRID, GRID) of every shape at several radii and angles, and the shape of each."""
    masks, names = [], []
    centre = (PICTURE_SIZE / 2, PICTURE_SIZE / 2)
    for shape in SHAPES:
        for radius in (13.0, 16.0, 20.0, 24.0):
            for angle in (-ANGLE_JITTER, 0.0, ANGLE_JITTER):
                masks.append(normalised(shape_mask(shape, centre, radius, angle)))
                names.append(shape)
    return np.stack(masks), tuple(names)


def classify(image: Image.Image) -> Reading:
    """What a rendered or generated RGB picture shows."""
    picture = np.asarray(image.convert("RGB"), dtype=np.float32)
    found = foreground_mask(picture)
    if found is None:
        return Reading(None, None, nearest_colour(border_colour(picture), BACKGROUNDS), 0.0)
    mask, colour, background = found
    window = normalised(mask)
    known, names = templates()
    overlaps = np.minimum(known, window).sum(axis=(1, 2)) / np.maximum(known, window).sum(axis=(1, 2))
    best = int(np.argmax(overlaps))
    overlap = float(overlaps[best])
    shape = names[best] if overlap >= LEAST_OVERLAP else None
    return Reading(nearest_colour(colour, COLOURS), shape, nearest_colour(background, BACKGROUNDS), overlap)
