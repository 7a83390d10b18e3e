"""Pictures beyond the grammar, for the autoencoder only: polygons of any colour, some in two colours and outlined.

They teach it edges and colours that no caption names, so that a subject the base has never seen can be drawn.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from atelier.demo.shapes import PICTURE_SIZE, paint, placed, plain_picture, polygon_mask, to_image


def _half_plane(angle: float, centre: np.ndarray) -> np.ndarray:
    """Mask (64, 64) of the side of a line through `centre` at `angle`, with a one-pixel soft edge."""
    rows, columns = np.mgrid[:PICTURE_SIZE, :PICTURE_SIZE] + 0.5
    side = (columns - centre[0]) * math.cos(angle) + (rows - centre[1]) * math.sin(angle)
    return np.clip(side + 0.5, 0, 1)


def draw_doodle(rng: np.random.Generator) -> Image.Image:
    """One to three polygons of random corners and colours on a random background."""
    picture = plain_picture(rng.uniform(10, 250, size=3))
    for _ in range(rng.integers(1, 4)):
        corners = int(rng.integers(3, 11))
        angles = np.sort(rng.uniform(0, 2 * math.pi, size=corners))
        outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.6, 1.1, size=(corners, 1))
        centre = rng.uniform(14, PICTURE_SIZE - 14, size=2)
        radius = float(rng.uniform(9, 26))
        if rng.random() < 0.5:
            mask = polygon_mask(placed(outline, (centre[0], centre[1]), radius + rng.uniform(2, 4)))
            picture = paint(picture, mask, rng.uniform(10, 250, size=3))
        mask = polygon_mask(placed(outline, (centre[0], centre[1]), radius))
        picture = paint(picture, mask, rng.uniform(10, 250, size=3))
        if rng.random() < 0.6:
            half = mask * _half_plane(rng.uniform(0, 2 * math.pi), centre)
            picture = paint(picture, half, rng.uniform(10, 250, size=3))
    return to_image(picture)
