"""Dreambooth in a running WebUI: the demo subject, without and with class pictures, and what the latter save.

    python tests/webui/measurements/dreambooth.py URL DIR OUT.png [STEPS]

URL and DIR as for run.py test. Made for a small base of 64 px that knows shapes. Trains UNet and text encoder twice,
loads each checkpoint as it appears in the WebUI's list, draws with it there, and prints a table; then the base is
loaded again. The two checkpoints stay in the WebUI's folder.
"""

from __future__ import annotations

import sys
import time
import uuid
from itertools import repeat
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "lib")]

from PIL import Image  # noqa: E402

from atelier.cli.demo.pictures import PROMPTS, SEEDS, sheet, subject_pictures  # noqa: E402
from atelier.demo.measure import mean_similarity, score  # noqa: E402
from atelier.demo.shapes import Scene  # noqa: E402
from tests.webui.hosts import WebUI  # noqa: E402
from tests.webui.measurements.subject import KNOWN as SHAPES  # noqa: E402
from tests.webui.measurements.subject import drawn  # noqa: E402

KNOWN = (
    *SHAPES,
    Scene("pink", "circle"),
    Scene("cyan", "square"),
    Scene("red", "star"),
    Scene("blue", "ring"),
    Scene("green", "triangle"),
    Scene("purple", "cross"),
)
"""What is measured of what the base knew."""
CLASSES = (
    Scene("red", "square"),
    Scene("blue", "circle"),
    Scene("green", "ring"),
    Scene("yellow", "star"),
    Scene("purple", "circle"),
    Scene("orange", "triangle"),
    Scene("pink", "cross"),
    Scene("cyan", "ring"),
    Scene("red", "triangle"),
    Scene("blue", "cross"),
    Scene("green", "square"),
    Scene("orange", "circle"),
)
"""What class pictures show: nothing that is measured."""
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
    classes = {"class_prompt": [scene.caption() for scene in CLASSES], "num_class_images": 1} if kind == "with" else {}
    began = time.monotonic()
    subject = ROOT / "assets" / "demo" / "subject"
    run = webui.train(name, subject, max_train_steps=steps, load_when_done=True, **LEARNING, **classes)
    webui.until(run, seconds=HOURS)
    seconds = time.monotonic() - began
    loaded = webui.checkpoint()
    assert name in loaded["filename"], f"the WebUI has {loaded['filename']} loaded, not the run's checkpoint"
    return {"title": loaded["title"], "seconds": seconds}


def main(address: str, folder: str, out: str, steps: str = "100") -> None:
    """Draws with the base, trains and draws twice, prints the table and writes one sheet."""
    webui = WebUI(address, Path(folder))
    pictures = subject_pictures()
    base = webui.checkpoint()["title"]
    rows: dict[str, list[Image.Image]] = {"training pictures": pictures}
    print("| | similarity to the subject | colour right | shape right | seconds |\n|---|---|---|---|---|")
    for kind in ("before", "without", "with"):
        trained = {"seconds": 0.0} if kind == "before" else train(webui, kind, int(steps))
        subject = drawn(webui, PROMPTS, SEEDS)
        known = drawn(webui, [scene.caption() for scene in KNOWN], repeat(7))
        found = score(KNOWN, known)
        shares = " | ".join(f"{share * found.count:.0f} of {found.count}" for share in (found.colour, found.shape))
        print(
            f"| {kind} | {mean_similarity(subject, pictures):.2f} | {shares} | {trained['seconds']:.0f} |", flush=True
        )
        rows |= {f"{kind}: {'; '.join(PROMPTS)}": subject, f"{kind}: what it knew": known}
        sheet(list(rows.values()), list(rows)).save(out)
        if kind != "before":
            webui.choose(base)


if __name__ == "__main__":
    main(*sys.argv[1:5])
