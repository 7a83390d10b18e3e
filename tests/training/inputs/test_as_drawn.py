"""What is learnt is what the WebUI draws with, or a sentence says where it is not."""

from __future__ import annotations

from typing import Any

import pytest

from atelier.config.settings.schema import Settings
from atelier.hosts.contract import DrawnWith
from atelier.training.inputs.as_drawn import compared, differences, followed, unlike_drawn


class Drawing:
    """A host that draws with settings of its own."""

    name = "drawing"

    def __init__(self, drawn: DrawnWith, family: str | None = "sd1") -> None:
        self.drawn, self.family = drawn, family

    def drawn_with(self, family: str) -> DrawnWith:
        return self.drawn

    def loaded_model(self) -> Any:
        return None if self.family is None else self


@pytest.mark.parametrize(
    ("family", "skip", "filled"),
    [
        ("sd1", 1, {}), ("sd1", 2, {"clip_skip": 2}), ("sd2", 3, {"clip_skip": 3}), ("sdxl", 2, {}),
        ("sdxl", 3, {"clip_skip": 3}), ("another", 2, {}), (None, 2, {}),
    ],
)  # fmt: skip
def test_the_recommended_clip_skip_is_the_webuis(family: str | None, skip: int, filled: dict[str, int]) -> None:
    assert followed(Drawing(DrawnWith(clip_skip=skip)), family) == filled  # type: ignore[arg-type]


def test_the_page_says_what_follows_and_what_was_changed() -> None:
    host: Any = Drawing(DrawnWith(clip_skip=2))
    assert compared(Settings(clip_skip=2), host, "sd1") == ["Clip skip (clip_skip) is 2, as in this WebUI's settings."]
    [sentence] = compared(Settings(), host, "sd1")
    assert sentence.startswith("Clip skip (clip_skip) is empty, but this WebUI draws with 2")
    assert compared(Settings(), Drawing(DrawnWith()), "sd1") == []  # type: ignore[arg-type]
    assert unlike_drawn(Settings(), host) == [sentence]
    assert unlike_drawn(Settings(), Drawing(DrawnWith(clip_skip=2), None)) == []  # type: ignore[arg-type]


def test_a_run_that_skips_less_or_more_is_told() -> None:
    assert differences(Settings(clip_skip=1), DrawnWith(), "sd1") == []
    assert "is 2, but this WebUI draws with 1" in differences(Settings(clip_skip=2), DrawnWith(), "sd1")[0]
    assert differences(Settings(clip_skip=1), DrawnWith(clip_skip=2), "sdxl") == [], "SDXL has no later layer"
    assert "is 3, but this WebUI draws with 2" in differences(Settings(clip_skip=3), DrawnWith(), "sdxl")[0]
    assert differences(Settings(clip_skip=3), DrawnWith(), "another") == []


def test_emphasis_crops_and_what_cannot_be_followed() -> None:
    drawn = DrawnWith(emphasis="No norm", crop=(8, 16), unlike=("One encoder only.",))
    assert differences(Settings(), drawn, "sd1") == ["One encoder only."], "brackets in captions are text"
    said = " ".join(differences(Settings(weighted_captions=True), drawn, "sdxl"))
    assert "the mode No norm" in said and "top 8, left 16" in said
