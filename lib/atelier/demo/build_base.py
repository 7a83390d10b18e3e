"""The recipe of the demo base, top to bottom: pictures, text encoder, autoencoder, UNet, folder, figures.

It takes fixed shares of a budget of CPU seconds, so that a slower machine learns less and not longer.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from atelier.demo.budget import Report
from atelier.demo.build_text import build_text_encoder, tokens_of
from atelier.demo.build_unet import build_unet
from atelier.demo.build_vae import SCALING_FACTOR, build_vae, encode
from atelier.demo.doodles import draw_doodle
from atelier.demo.measure import GUIDANCE, STEPS, Accuracy, measure
from atelier.demo.shapes import Scene, all_scenes, draw, is_held_out

TOKENIZER = Path(__file__).resolve().parents[3] / "assets" / "demo" / "base" / "tokenizer"
SCENES = 8000
DOODLES = 3000
SECONDS = 1120.0
"""CPU seconds for the three trainings; drawing, encoding and measuring take about a minute more."""

TEXT_SHARE = 0.03
VAE_SHARE = 0.3
MEASURED = 160


def known_pictures(count: int, seed: int) -> tuple[list[Scene], torch.Tensor]:
    """`count` scenes that are not held out and their pictures (count, 3, 64, 64) uint8."""
    rng = np.random.default_rng(seed)
    known = [scene for scene in all_scenes() if not is_held_out(scene)]
    scenes = [known[index] for index in rng.integers(0, len(known), size=count)]
    return scenes, as_tensor([np.asarray(draw(scene, rng)) for scene in scenes])


def doodle_pictures(count: int, seed: int) -> torch.Tensor:
    """`count` doodles, (count, 3, 64, 64) uint8."""
    rng = np.random.default_rng(seed)
    return as_tensor([np.asarray(draw_doodle(rng)) for _ in range(count)])


def as_tensor(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures (64, 64, 3) as one uint8 tensor (count, 3, 64, 64)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def text_states(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, captions: Sequence[str]) -> torch.Tensor:
    """What the UNet attends to for each caption, (count, 77, 64)."""
    parts = tokens_of(tokenizer, captions).split(256)
    return torch.cat([text_encoder(part).last_hidden_state for part in parts])


def train_unet(
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    vae: AutoencoderKL,
    scenes: Sequence[Scene],
    pictures: torch.Tensor,
    seconds: float,
    report: Report,
) -> UNet2DConditionModel:
    """Encodes the scenes' pictures and captions once and trains the UNet on them."""
    rng = np.random.default_rng(3)
    said = [scene.caption(photo, plain) for scene, (photo, plain) in zip(scenes, rng.random((len(scenes), 2)) < 0.4)]
    different = sorted(set(said))
    states = text_states(tokenizer, text_encoder, ["", *different])
    place = {caption: index for index, caption in enumerate(different, start=1)}
    latents = encode(vae, pictures) * SCALING_FACTOR
    captions = [states[place[caption]] for caption in said]
    return build_unet(latents, captions, states[0], seconds, 3, report)


def save(
    out: Path, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, vae: AutoencoderKL, unet: UNet2DConditionModel
) -> None:
    """Writes a diffusers folder in float16; the modules given are float16 afterwards."""
    out.mkdir(parents=True, exist_ok=True)
    for name, module in (("text_encoder", text_encoder), ("vae", vae), ("unet", unet)):
        module.half().save_pretrained(str(out / name), safe_serialization=True)
    with_text_prefix(out / "text_encoder" / "model.safetensors")
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    scheduler.register_to_config(clip_sample=False)  # for DDIM, whose default would clip these latents to -1…1
    scheduler.save_pretrained(str(out / "scheduler"))
    if (out / "tokenizer").resolve() != TOKENIZER:
        shutil.copytree(TOKENIZER, out / "tokenizer", dirs_exist_ok=True)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.31.0",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def with_text_prefix(path: Path) -> None:
    """Gives the text encoder's tensors the names every release of transformers reads.

    transformers 5 writes `encoder.…` where 4 wrote, and needs, `text_model.encoder.…`; it reads either.
    """
    tensors = {"text_model." + name.removeprefix("text_model."): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def build(out: Path, seconds: float = SECONDS, report: Report = print) -> Accuracy:
    """Trains the demo base from nothing, writes it to `out` with a README of its figures, and returns them.

    `seconds` is the CPU time of the three trainings together.
    """
    start = time.process_time()
    lines: list[str] = []

    def note(sentence: str) -> None:
        lines.append(sentence)
        report(sentence)

    tokenizer = CLIPTokenizer.from_pretrained(str(TOKENIZER))
    scenes, pictures = known_pictures(SCENES, seed=1)
    seen = torch.cat([pictures[: SCENES // 2], doodle_pictures(DOODLES, seed=2)])
    seen = seen[torch.randperm(len(seen), generator=torch.Generator().manual_seed(0))]
    note(f"Drew {SCENES} scenes and {DOODLES} doodles.")
    text_encoder = build_text_encoder(tokenizer, seconds * TEXT_SHARE, 0, note)
    vae = build_vae(seen, seconds * VAE_SHARE, 0, note)
    unet_seconds = seconds * (1 - TEXT_SHARE - VAE_SHARE)
    unet = train_unet(tokenizer, text_encoder, vae, scenes, pictures, unet_seconds, note)
    save(out, tokenizer, text_encoder, vae, unet)
    trained = time.process_time() - start
    accuracy = measure(out, MEASURED)
    note(f"Held-out combinations: {accuracy}.")
    note(f"CPU time: {trained:.0f} s to build, {time.process_time() - start - trained:.0f} s to measure.")
    write_readme(out, accuracy, trained, lines)
    return accuracy


def write_readme(out: Path, accuracy: Accuracy, seconds: float, log: Sequence[str]) -> None:
    """Writes what the base is, how it did and what its building said to `out`/README.md."""
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    ends = [line for line in log if ": step " not in line]
    text = f"""# The demo base

A Stable Diffusion 1.x of {size / 1e6:.1f} MB, trained from nothing on rendered shapes by
`python run.py build-demo-base` (the recipe is `lib/atelier/demo/build_base.py`). 64 x 64 pictures,
8 x 8 latents of 4 channels, epsilon, scaled_linear 0.00085 to 0.012, scaling factor 0.18215, float16. It is a base
to try training on where no released weights are at hand; it knows nothing but its shapes.

Prompts it knows: `a [small|big] COLOUR SHAPE [on a BACKGROUND background]`, optionally behind `a photo of`.
Colours: red, green, blue, yellow, purple, orange, cyan, pink. Shapes: circle, square, triangle, star, cross, ring.
Backgrounds: the colours and white, gray, black.

| On combinations of colour and shape it never saw | |
|---|---|
| colour right | {accuracy.colour:.1%} |
| shape right | {accuracy.shape:.1%} |
| background right | {accuracy.background:.1%} |
| pictures | {accuracy.count}, DDIM, {STEPS} steps, guidance {GUIDANCE:g}, read by `lib/atelier/demo/classify.py` |
| CPU time of the build | {seconds:.0f} s ({seconds / 60:.1f} minutes) |

What the build said:

{chr(10).join("- " + line for line in ends)}

The tokenizer (`vocab.json`, `merges.txt`) is that of OpenAI's CLIP, under the MIT licence.
"""
    (out / "README.md").write_text(text, encoding="utf-8")


def main(out: str, threads: int = 1) -> None:
    """Builds the demo base into the folder `out` with so many torch threads, saying on the console how it goes."""
    torch.set_num_threads(threads)
    build(Path(out), report=lambda sentence: print(sentence, flush=True))
