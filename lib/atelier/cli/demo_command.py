"""`run.py demo --out DIR`: trains the demo subject on the demo base, draws before and after, and reports."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from atelier.cli.demo import dreambooth
from atelier.cli.demo.pictures import (
    ASSETS,
    HELD_OUT,
    PROMPTS,
    SEEDS,
    SIDE,
    draw,
    draw_known,
    sheet,
    subject_pictures,
)

NAME = "zwx_badge"
MEASURE = (
    "similarity: overlap of the foregrounds' outlines times the agreement of the colours in them, position and size "
    "normalised, mean over the training pictures, 1 being the training pictures among themselves "
    "(atelier.demo.measure.subject_similarity). prior_accuracy: share of pictures of known prompts in which a "
    "classifier reads the colour that was asked for (atelier.demo.classify), after training with the LoRA at weight 1."
)


def run(arguments: list[str]) -> int:
    """Writes before_after.png, the LoRA and report.json into --out."""
    parser = argparse.ArgumentParser(prog="run.py demo", description=__doc__)
    parser.add_argument("--out", required=True, help="folder for the results; made if it is missing")
    parser.add_argument("--base", default=str(ASSETS / "base"), help="another base of the demo's kind")
    parser.add_argument("--steps", type=int, default=250, help="training steps (default: %(default)s)")
    parser.add_argument(
        "--dreambooth", action="store_true", help="train whole models instead, without and with class pictures"
    )
    options = parser.parse_args(arguments)
    out = Path(options.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    if options.dreambooth:
        return dreambooth.run(out, Path(options.base), options.steps)
    report = demo(out, Path(options.base), options.steps)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for key in ("similarity_before", "similarity_after", "prior_accuracy_before", "prior_accuracy_after"):
        print(f"{key}: {report[key]:.3f}")
    print(f"See {out / 'before_after.png'} and {out / 'report.json'}.")
    return 0


def demo(out: Path, base: Path, steps: int) -> dict[str, Any]:
    """Before, training, after. Gives the report."""
    import torch

    from atelier.cli.shared.headless import run_job
    from atelier.config.job import job_from_settings
    from atelier.demo.measure import held_out_scenes, mean_similarity, score
    from atelier.hosts.embedded.host import EmbeddedHost

    subject = subject_pictures()
    scenes = held_out_scenes(HELD_OUT)
    host = EmbeddedHost(out / "data", base)
    print("Drawing before …", flush=True)
    before = [draw(host, prompt, seed) for prompt in PROMPTS for seed in SEEDS]
    known_before = [draw(host, scene.caption(), 100 + index) for index, scene in enumerate(scenes)]

    print("Drawing pictures of what it knows, to be kept while it learns …", flush=True)
    draw_known(host, out / "known" / "1_shape")

    print("Training …", flush=True)
    clock = time.monotonic()
    job = job_from_settings(settings(steps, out / "known"))
    outcome, record = run_job(job, host, out / "data" / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{NAME}")
    seconds = time.monotonic() - clock
    assert outcome.path is not None
    print("Drawing after …", flush=True)
    tag = f"<lora:{outcome.path.stem}:1>"
    after = [draw(host, f"{prompt} {tag}", seed) for prompt in PROMPTS for seed in SEEDS]
    known_after = [draw(host, f"{scene.caption()} {tag}", 100 + index) for index, scene in enumerate(scenes)]

    rows = [subject, before, after, known_before[:9], known_after[:9]]
    sheet(rows, ["the pictures", "before", "after", "known, before", "known, after"]).save(out / "before_after.png")
    lora = out / outcome.path.name
    lora.write_bytes(outcome.path.read_bytes())

    return {
        "similarity_before": mean_similarity(before, subject),
        "similarity_after": mean_similarity(after, subject),
        "prior_accuracy_before": score(scenes, known_before).colour,
        "prior_accuracy_after": score(scenes, known_after).colour,
        "prior_shape_before": score(scenes, known_before).shape,
        "prior_shape_after": score(scenes, known_after).shape,
        "first_step_seconds": (record.first_step_at or clock) - clock,
        "seconds_per_step": record.view()["progress"]["seconds_per_step"],
        "steps": outcome.steps,
        "training_seconds": seconds,
        "lora": lora.name,
        "pictures": len(after),
        "seeds": list(SEEDS),
        "known_prompts": len(scenes),
        "measure": MEASURE,
        "base": base.name,
        "torch_threads": torch.get_num_threads(),
    }


def settings(steps: int, known: Path) -> Any:
    """The settings of the demo: rank 8, text encoder and UNet, class pictures beside the subject's."""
    from atelier.config.settings.schema import Settings

    return Settings(
        output_name=NAME,
        trigger="zwx",
        subject="object",
        train_data_dir=str(ASSETS / "subject"),
        reg_data_dir=str(known),
        dataset_repeats=8,
        resolution=str(SIDE),
        min_bucket_reso=SIDE,
        max_bucket_reso=SIDE,
        bucket_reso_steps=8,
        network_dim=8,
        network_alpha=8,
        learning_rate=3e-3,
        text_encoder_lr=[1e-3],
        lr_scheduler="cosine",
        max_train_steps=steps,
        train_batch_size=8,
        sample_at_end=False,
        seed=1,
    )
