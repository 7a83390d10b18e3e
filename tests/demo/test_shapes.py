"""The demo base's pictures, their classifier, the subject and its measure, and the autoencoder's rescaling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from atelier.demo.build_text import ATTRIBUTES, labels_of
from atelier.demo.build_unet import HEAD_TOKENS, TAIL_TOKENS, kept_signal, some_tokens, spread_timesteps
from atelier.demo.build_vae import SCALING_FACTOR, encode, new_vae, rescale, wire
from atelier.demo.classify import classify
from atelier.demo.doodles import draw_doodle
from atelier.demo.measure import held_out_scenes, subject_similarity
from atelier.demo.shapes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    Scene,
    all_scenes,
    draw,
    is_held_out,
    is_held_out_background,
    is_held_out_shape,
    plain_picture,
    to_image,
)
from atelier.demo.subject import OTHER_VIEWS, VIEWS, draw_subject, write_subject


def test_the_grammar_of_captions() -> None:
    assert Scene("red", "circle").caption() == "a red circle"
    assert Scene("orange", "star", "orange").caption() == "an orange star on an orange background"
    assert Scene("blue", "ring", "gray", "big").caption(photo=True) == (
        "a photo of a big blue ring on a gray background"
    )
    assert Scene("pink", "cross").caption(name_plain=True) == "a pink cross on a white background"


def test_a_picture_is_a_pure_function_of_its_scene_and_seed() -> None:
    scene = Scene("green", "star", "black", "small")
    first, again, other = (np.asarray(draw(scene, np.random.default_rng(seed))) for seed in (5, 5, 6))
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_classifier_reads_every_rendered_scene() -> None:
    rng = np.random.default_rng(0)
    scenes = all_scenes()[::5]
    wrong = []
    for scene in scenes:
        reading = classify(draw(scene, rng))
        if (reading.colour, reading.shape, reading.background) != (scene.colour, scene.shape, scene.background):
            wrong.append((scene, reading))
    assert not wrong


def test_the_classifier_admits_what_it_cannot_read() -> None:
    blank = classify(to_image(plain_picture((128, 128, 128))))
    assert (blank.colour, blank.shape, blank.background) == (None, None, "gray")
    noise = np.random.default_rng(0).integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
    assert classify(Image.fromarray(noise)).shape is None
    assert classify(draw_subject(VIEWS[0])).shape is None


def test_each_colour_has_one_held_out_shape_and_one_held_out_background() -> None:
    scenes = all_scenes()
    shapes = {(scene.colour, scene.shape) for scene in scenes if is_held_out_shape(scene)}
    backgrounds = {(scene.colour, scene.background) for scene in scenes if is_held_out_background(scene)}
    assert sorted(colour for colour, _ in shapes) == sorted(COLOURS)
    assert sorted(colour for colour, _ in backgrounds) == sorted(COLOURS)
    assert all(colour != background for colour, background in backgrounds)
    known = [scene for scene in scenes if not is_held_out(scene)]
    assert {scene.shape for scene in known} == set(SHAPES)
    assert {scene.background for scene in known} == set(BACKGROUNDS)


def test_what_is_measured_was_never_trained_on() -> None:
    scenes = held_out_scenes(48)
    assert len(set(scenes)) == 48
    assert all(is_held_out_shape(scene) for scene in scenes)
    assert len({scene.colour for scene in scenes[:8]}) == 8
    with pytest.raises(ValueError, match="fewer than the 5000"):
        held_out_scenes(5000)


def test_labels_name_the_scene() -> None:
    scene = Scene("cyan", "ring", "black", None)
    labels = labels_of([scene])
    read = {name: values[int(labels[name][0])] for name, values in ATTRIBUTES.items()}
    assert read == {"colour": "cyan", "shape": "ring", "background": "black", "size": None}


def test_the_measure_tells_the_subject_from_everything_else() -> None:
    subject = [draw_subject(view) for view in VIEWS]
    own = [subject_similarity(draw_subject(view), subject) for view in OTHER_VIEWS]
    assert min(own) > 0.88
    rng = np.random.default_rng(0)
    others = [draw(Scene(colour, shape), rng) for colour in COLOURS for shape in SHAPES]
    others += [draw_doodle(rng) for _ in range(20)]
    assert max(subject_similarity(picture, subject) for picture in others) < 0.45
    assert subject_similarity(ImageOps.mirror(draw_subject(OTHER_VIEWS[0])), subject) < 0.4
    assert subject_similarity(to_image(plain_picture((20, 20, 20))), subject) == 0


def test_the_committed_subject_is_what_the_code_draws(tmp_path: Path, root: Path) -> None:
    written = write_subject(tmp_path)
    assert len(written) == 7
    for path in written:
        committed = root / "assets" / "demo" / "subject" / path.name
        assert np.array_equal(np.asarray(Image.open(committed)), np.asarray(Image.open(path)))
        assert committed.with_suffix(".txt").read_text(encoding="utf-8") == (
            path.with_suffix(".txt").read_text(encoding="utf-8")
        )


def test_rescaling_makes_latents_standard_and_changes_no_picture() -> None:
    torch.manual_seed(0)
    vae = new_vae().eval()
    wire(vae)
    rng = np.random.default_rng(0)
    pictures = np.stack([np.asarray(draw_doodle(rng)) for _ in range(24)])
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        before = vae.decode(encode(vae, batch)).sample
        rescale(vae, batch)
        after = vae.decode(encode(vae, batch)).sample
    latents = encode(vae, batch) * SCALING_FACTOR
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-3)


def test_the_noise_schedule_is_stable_diffusions() -> None:
    kept = kept_signal()
    assert kept[0] == pytest.approx(1 - 0.00085, abs=1e-6)
    assert kept[-1] == pytest.approx(0.00466, abs=1e-4)


def test_timesteps_cover_the_whole_range() -> None:
    timesteps = spread_timesteps(50, torch.Generator().manual_seed(0))
    assert sorted((timesteps // 20).tolist()) == list(range(50))


def test_a_few_padding_tokens_weigh_as_much_as_all_of_them() -> None:
    states = torch.arange(77.0)[None, :, None].expand(2, 77, 3)
    kept, mask = some_tokens(states, torch.Generator().manual_seed(0))
    assert kept.shape == (2, HEAD_TOKENS + TAIL_TOKENS, 3)
    assert kept[0, :HEAD_TOKENS, 0].tolist() == list(range(HEAD_TOKENS))
    weights = torch.exp((1 - mask) * -10000)
    assert float(weights[0].sum()) == pytest.approx(77, abs=0.1)
