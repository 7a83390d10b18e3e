"""Dreambooth in a running WebUI: the demo subject, without and with class pictures, and what the latter save.

    python tests/webui_dreambooth.py URL DIR OUT.png [STEPS]

URL and DIR as for run.py test. Made for a small base of 64 px that knows shapes. Trains UNet and text encoder twice,
loads each checkpoint as it appears in the WebUI's list, draws with it there, and prints a table; then the base is
loaded again. The two checkpoints stay in the WebUI's folder.
"""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lib"))

from PIL import Image  # noqa: E402
from webui_hosts import WebUI  # noqa: E402

from atelier.cli.demo_command import sheet, subject_pictures  # noqa: E402
from atelier.demo.classify import Reading, classify  # noqa: E402
from atelier.demo.measure import mean_similarity  # noqa: E402

SUBJECT = ("a zwx badge", "a zwx badge on a white background", "a zwx badge on a yellow background")
SEEDS = (11, 22, 33)
KNOWN = tuple(
    f"{words} {shape}"
    for words, shape in (
        ("a red", "circle"),
        ("a blue", "square"),
        ("a green", "star"),
        ("a yellow", "ring"),
        ("a purple", "triangle"),
        ("an orange", "cross"),
        ("a pink", "circle"),
        ("a cyan", "square"),
        ("a red", "star"),
        ("a blue", "ring"),
        ("a green", "triangle"),
        ("a purple", "cross"),
    )
)
"""What is measured of what the base knew."""
CLASSES = [
    f"{words} {shape}"
    for words, shape in (
        ("a red", "square"),
        ("a blue", "circle"),
        ("a green", "ring"),
        ("a yellow", "star"),
        ("a purple", "circle"),
        ("an orange", "triangle"),
        ("a pink", "cross"),
        ("a cyan", "ring"),
        ("a red", "triangle"),
        ("a blue", "cross"),
        ("a green", "square"),
        ("an orange", "circle"),
    )
]
"""Class prompts: none of those that are measured."""
HOURS = 4 * 3600.0
"""Seconds: the longest that a run may take without a GPU."""
LEARNING: dict[str, Any] = {
    "train_whole_model": True,
    "train_text_encoder": True,
    "network_train_unet_only": False,
    "learning_rate": 6e-5,
    "optimizer_type": "Adafactor",
    "optimizer_args": ["relative_step=False", "scale_parameter=False"],
    "fused_backward_pass": True,
    "lr_scheduler": "constant",
    "train_batch_size": 4,
    "dataset_repeats": 2,
    "save_precision": "fp16",
    "save_state": False,
}


def train(webui: WebUI, kind: str, steps: int) -> dict[str, Any]:
    """One run, "without" or "with" class pictures. Gives the checkpoint as the WebUI lists it, and the seconds."""
    name = f"zwx-{kind}-{uuid.uuid4().hex[:4]}"
    classes = {"class_prompt": CLASSES, "num_class_images": 1} if kind == "with" else {}
    began = time.monotonic()
    subject = ROOT / "assets" / "demo" / "subject"
    run = webui.train(name, subject, max_train_steps=steps, load_when_done=True, **LEARNING, **classes)
    webui.until(run, seconds=HOURS)
    seconds = time.monotonic() - began
    loaded = webui.checkpoint()
    assert name in loaded["filename"], f"the WebUI has {loaded['filename']} loaded, not the run's checkpoint"
    return {"title": loaded["title"], "seconds": seconds}


def drawn(webui: WebUI) -> tuple[list[Image.Image], list[Image.Image]]:
    """Pictures of the subject and of what the base knew, with the loaded checkpoint."""
    settings: dict[str, Any] = {"steps": 12, "cfg_scale": 3, "sampler_name": "DDIM"}

    def one(prompt: str, seed: int) -> Image.Image:
        return Image.fromarray(webui.draw(prompt, seed=seed, **settings))

    subject = [one(prompt, seed) for prompt, seed in zip(SUBJECT, SEEDS)]
    return subject, [one(prompt, 7) for prompt in KNOWN]


def right(readings: list[Reading], word: int) -> str:
    """How many pictures of `KNOWN` have the colour (1) or the shape (2) that was asked for."""
    asked = [prompt.split()[word] for prompt in KNOWN]
    count = sum(want == (reading.colour, reading.shape)[word - 1] for want, reading in zip(asked, readings))
    return f"{count} of {len(KNOWN)}"


def main(address: str, folder: str, out: str, steps: str = "100") -> None:
    """Draws with the base, trains and draws twice, prints the table and writes one sheet."""
    webui = WebUI(address, Path(folder))
    pictures = subject_pictures()
    base = webui.checkpoint()["title"]
    rows: dict[str, list[Image.Image]] = {"training pictures": pictures}
    print("| | similarity to the subject | colour right | shape right | seconds |\n|---|---|---|---|---|")
    for kind in ("before", "without", "with"):
        trained = {"seconds": 0.0} if kind == "before" else train(webui, kind, int(steps))
        subject, known = drawn(webui)
        readings = [classify(picture) for picture in known]
        figures = (f"{mean_similarity(subject, pictures):.2f}", right(readings, 1), right(readings, 2))
        print(f"| {kind} | {' | '.join(figures)} | {trained['seconds']:.0f} |", flush=True)
        rows |= {f"{kind}: {'; '.join(SUBJECT)}": subject, f"{kind}: what it knew": known}
        sheet(list(rows.values()), list(rows)).save(out)
        if kind != "before":
            webui.choose(base)


if __name__ == "__main__":
    main(*sys.argv[1:5])
