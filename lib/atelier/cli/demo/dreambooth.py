"""`run.py demo --dreambooth`: Dreambooth on the demo base without and with prior preservation, and what that saves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from atelier.cli.demo.pictures import (
    ASSETS,
    HELD_OUT,
    KNOWN,
    PROMPTS,
    SEEDS,
    SIDE,
    draw,
    known_captions,
    sheet,
    subject_pictures,
)

if TYPE_CHECKING:
    from atelier.hosts.embedded.host import EmbeddedHost

NAME = "zwx_badge_model"
RATE = 3e-4
COLUMNS = (
    ("similarity", "similarity to the subject, from its token"),
    ("colour", "colour right, of what it knew"),
    ("shape", "shape right, of what it knew"),
    ("seconds", "seconds"),
)


def dreambooth(out: Path, base: Path, steps: int) -> dict[str, Any]:
    """Draws with the base, trains without and with class pictures, draws with each result. Gives the report."""
    from atelier.demo.measure import held_out_scenes
    from atelier.hosts.embedded.host import EmbeddedHost

    subject = subject_pictures()
    scenes = held_out_scenes(HELD_OUT)
    found: dict[str, Any] = {}
    rows, names = [subject], ["the pictures"]
    for kind in ("before", "without", "with"):
        # One data folder, so that latents and class pictures are used again.
        host = EmbeddedHost(out / "data", base)
        seconds, path = 0.0, None
        if kind != "before":
            print(f"Training {kind} prior preservation …", flush=True)
            clock = time.monotonic()
            path = train(out, host, kind, steps)
            seconds = time.monotonic() - clock
            host.load(path)
        print(f"Drawing ({kind}) …", flush=True)
        found[kind] = {**figures(host, subject, scenes), "seconds": seconds, "file": path.name if path else base.name}
        rows += [found[kind].pop("subject_pictures"), found[kind].pop("known_pictures")[:9]]
        names += [f"{kind}: a zwx badge", f"{kind}: what it knew"]
    sheet(rows, names).save(out / "dreambooth.png")
    return {
        "rows": found,
        "steps": steps,
        "class_pictures": KNOWN,
        "held_out_prompts": HELD_OUT,
        "table": table(found),
    }


def train(out: Path, host: EmbeddedHost, kind: str, steps: int) -> Path:
    """One run, as `run.py train` makes it. Gives the checkpoint."""
    from atelier.cli.shared.headless import run_job
    from atelier.config.job import job_from_settings

    job = job_from_settings(settings(kind, steps))
    folder = out / "data" / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{job.name}"
    outcome, _ = run_job(job, host, folder)
    assert outcome.path is not None
    return outcome.path


def settings(kind: str, steps: int) -> Any:
    """Dreambooth of UNet and text encoder; `kind` "with": beside pictures that the base itself draws of its classes."""
    from atelier.config.settings.schema import Settings

    return Settings(
        output_name=f"{NAME}_{kind}",
        trigger="zwx",
        subject="object",
        train_whole_model=True,
        train_text_encoder=True,
        train_data_dir=str(ASSETS / "subject"),
        class_prompt=known_captions() if kind == "with" else [],
        num_class_images=1 if kind == "with" else None,
        dataset_repeats=8,
        resolution=str(SIDE),
        min_bucket_reso=SIDE,
        max_bucket_reso=SIDE,
        bucket_reso_steps=8,
        learning_rate=RATE,
        lr_scheduler="cosine",
        max_train_steps=steps,
        train_batch_size=8,
        save_precision="float",
        sample_at_end=False,
        seed=1,
    )


def figures(host: EmbeddedHost, subject: list[Image.Image], scenes: list[Any]) -> dict[str, Any]:
    """What the loaded model draws of the subject and of what the base knew, and how good that is."""
    from atelier.demo.measure import mean_similarity, score

    drawn = [draw(host, prompt, seed) for prompt in PROMPTS for seed in SEEDS]
    known = [draw(host, scene.caption(), 100 + index) for index, scene in enumerate(scenes)]
    right = score(scenes, known)
    return {
        "similarity": mean_similarity(drawn, subject),
        "colour": right.colour,
        "shape": right.shape,
        "subject_pictures": drawn,
        "known_pictures": known,
    }


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    titles = {
        "before": "the base",
        "without": "Dreambooth without class pictures",
        "with": f"Dreambooth with {KNOWN} class pictures",
    }
    lines = [f"| | {' | '.join(title for _, title in COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for kind, row in found.items():
        cells = [f"{row['similarity']:.2f}", f"{row['colour']:.0%}", f"{row['shape']:.0%}", f"{row['seconds']:.0f}"]
        lines.append(f"| {titles[kind]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(out: Path, base: Path, steps: int) -> int:
    """Writes dreambooth.png, dreambooth.json and the checkpoints into `out`, and prints the table."""
    report = dreambooth(out, base, steps)
    (out / "dreambooth.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(report["table"])
    print(f"See {out / 'dreambooth.png'} and {out / 'dreambooth.json'}.")
    return 0
