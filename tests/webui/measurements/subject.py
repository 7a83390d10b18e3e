"""Teaches a running WebUI the demo subject through its training tab, in Chromium, and draws before and after.

    python tests/webui/measurements/subject.py URL DIR OUT.png [STEPS]

URL and DIR as for run.py test. Made for a small base of 64 px that knows shapes. Prints the similarity to the training
pictures (atelier.demo.measure.subject_similarity) and how many known prompts keep their colour, before and after.
"""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "lib")]

from PIL import Image  # noqa: E402

from atelier.cli.demo.pictures import SEEDS, sheet, subject_pictures  # noqa: E402
from atelier.config.settings.schema import option  # noqa: E402
from atelier.demo.measure import mean_similarity, score  # noqa: E402
from atelier.demo.shapes import Scene  # noqa: E402
from tests.webui.hosts import WebUI  # noqa: E402
from tests.webui.page import TAB, fill, open_page, open_tab  # noqa: E402

SUBJECT = tuple(f"a zwx badge on a {colour} background" for colour in ("white", "yellow", "blue"))
KNOWN = (
    Scene("red", "circle"),
    Scene("blue", "square"),
    Scene("green", "star"),
    Scene("yellow", "ring"),
    Scene("purple", "triangle"),
    Scene("orange", "cross"),
)
LEARNING = {
    "max_train_steps": "200",
    "learning_rate": "0.003",
    "text_encoder_lr": "0.001",
    "train_batch_size": "4",
    "network_dim": "8",
    "network_alpha": "8",
}


def train(webui: WebUI, name: str, learning: dict[str, str]) -> str:
    """Fills the tab in as a person does and presses Train. Gives the run's id, once it is done."""
    with open_page(webui) as page:
        open_tab(page, TAB)
        fill(page, "train_data_dir", str(ROOT / "assets" / "demo" / "subject"))
        fill(page, "trigger", "zwx")
        fill(page, "output_name", name)
        page.locator("#atelier_found").get_by_text(re.compile("7 ")).first.wait_for()
        advanced = page.locator("#atelier_advanced")
        advanced.locator(".label-wrap").first.click()
        opened = set()
        for key, value in {"resolution": "64,64", **learning}.items():
            group = option(key).group
            if group not in opened:
                advanced.locator(".label-wrap").get_by_text(re.compile(f"^{group}")).first.click()
                opened.add(group)
            fill(page, key, value)
        page.locator("#atelier_train").click()
        page.wait_for_function("(document.querySelector('#atelier_state') || {}).textContent === 'Training'")
        run = next(job["id"] for job in webui.ask("/atelier/v1/jobs")["jobs"] if job["name"] == name)
        webui.until(run)
        return str(run)


def drawn(webui: WebUI, prompts: Sequence[str], seeds: Iterable[int], lora: str = "") -> list[Image.Image]:
    """One picture for each prompt, with the loaded checkpoint."""
    settings: dict[str, Any] = {"steps": 12, "cfg_scale": 3, "sampler_name": "DDIM"}
    asked = zip(prompts, seeds)
    return [Image.fromarray(webui.draw(f"{prompt} {lora}".strip(), seed=seed, **settings)) for prompt, seed in asked]


def kept(pictures: list[Image.Image]) -> int:
    """How many pictures of `KNOWN` have the colour that was asked for."""
    return round(score(KNOWN, pictures).colour * len(KNOWN))


def main(address: str, folder: str, out: str, steps: str = LEARNING["max_train_steps"]) -> None:
    """NoiseSample, trains, draws again, and writes one sheet of it all."""
    webui = WebUI(address, Path(folder))
    pictures = subject_pictures()
    name = "zwx" + uuid.uuid4().hex[:4]
    known_prompts = [scene.caption() for scene in KNOWN]
    subject, known = drawn(webui, SUBJECT, SEEDS), drawn(webui, known_prompts, repeat(7))
    run = train(webui, name, {**LEARNING, "max_train_steps": steps})
    tag = f"<lora:{name}:1>"
    learnt, still = drawn(webui, SUBJECT, SEEDS, tag), drawn(webui, known_prompts, repeat(7), tag)
    rows = {
        "training pictures": pictures[:6],
        "subject, before: " + "; ".join(SUBJECT): subject,
        f"subject, with {tag}": learnt,
        "known, before: " + "; ".join(known_prompts): known,
        "known, with the LoRA": still,
    }
    sheet(list(rows.values()), list(rows)).save(out)
    print("run", run, "steps", webui.job(run)["step"])
    print(f"similarity {mean_similarity(subject, pictures):.3f} -> {mean_similarity(learnt, pictures):.3f}")
    print(f"known colours {kept(known)}/{len(KNOWN)} -> {kept(still)}/{len(KNOWN)}")


if __name__ == "__main__":
    main(*sys.argv[1:5])
