"""What reads files and requests from outside, each with whole examples to begin from."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from atelier.adapters.files.kohya_file import read_lora
from atelier.adapters.layers.presets import read_preset
from atelier.config.datasets import Subset
from atelier.config.errors import AtelierError
from atelier.config.imports.importer import import_report
from atelier.config.imports.loading import load_job
from atelier.config.job import job_to_dict
from atelier.config.kohya.toml_out import dataset_toml, training_toml
from atelier.config.sample_prompts import read_sample_prompts
from atelier.data.captions import final_caption, read_caption_file, read_metadata
from atelier.data.images import open_picture, picture_size
from atelier.data.tensor_cache import TensorCache
from atelier.data.wholeness import check_picture
from atelier.jobs.job import found_job
from atelier.models.checkpoints.load import load_checkpoint
from atelier.training.device.savings import MemorySavings
from atelier.training.progress.state import read_newest
from tests.hostile.fuzz_examples import (
    API_JSON,
    CAPTIONS,
    DATASETS,
    KINDS,
    LYCORIS,
    LYCORIS_KEYS,
    METADATA,
    PROMPTS,
    PROMPTS_JSON,
    PROMPTS_TOML,
    RECORD,
    checkpoint,
    folder_file,
    gui_preset,
    lora,
    pickled,
    pictures,
    savings,
    state,
)
from tests.support.jobs_fakes import finished, job_named
from tests.ui.test_routes import Site

SUBSETS = (
    Subset(image_dir="x"),
    Subset(image_dir="x", enable_wildcard=True, shuffle_caption=True, caption_tag_dropout_rate=0.5),
    Subset(image_dir="x", keep_tokens_separator="|||", secondary_separator=";;;", token_warmup_step=0.5, keep_tokens=2),
)


@dataclass(frozen=True)
class Target:
    """`look` reads the file `any` + `suffix`; it may give anything or raise `AtelierError` or one of `allowed`."""

    name: str
    suffix: str
    seeds: Sequence[bytes]
    look: Callable[[Path], Any]
    allowed: tuple[type[Exception], ...] = ()


def targets(folder: Path) -> list[Target]:
    """All of them. `folder` is for what they need beside the file."""
    job = job_named("cat", network_dim=8, optimizer_args=["weight_decay=0.1"], sample_prompts="a cat --w 64")
    there = folder / "pictures"
    there.mkdir()
    toml, datasets = (
        text.encode().replace(b'"pictures"', f'"{there.as_posix()}"'.encode())
        for text in (training_toml(job), dataset_toml(job))
    )
    record = {**RECORD, "request.json": [json.dumps(job_to_dict(job)).encode()]}
    return [
        Target("training TOML", ".toml", [toml, toml + b"\n" + datasets], _import_and_load),
        Target("dataset TOML", ".toml", [datasets, DATASETS], _load_datasets),
        Target("GUI preset", ".json", [gui_preset(), METADATA], lambda path: import_report(path)),
        Target("LyCORIS preset", ".toml", [LYCORIS], read_preset),
        Target("caption", ".txt", CAPTIONS, _captions),
        Target("captions in JSON", ".json", [METADATA], read_metadata, (ValueError, RecursionError)),
        Target("sample prompts, lines", ".txt", [PROMPTS], read_sample_prompts),
        Target("sample prompts, TOML", ".toml", [PROMPTS_TOML], read_sample_prompts),
        Target("sample prompts, JSON", ".json", [PROMPTS_JSON], read_sample_prompts),
        *(Target(f"picture, {kind}", f".{kind.lower()}", pictures(kind), _picture) for kind in KINDS),
        Target("safetensors", ".safetensors", [lora(), lora(LYCORIS_KEYS), checkpoint()], _tensors),
        Target("pickle", ".ckpt", [pickled(True), pickled(False)], _tensors),
        Target("cached latents", ".safetensors", [save({"tensor": torch.zeros(4, 2, 2)})], _cached(folder)),
        Target("state", ".safetensors", [state()], _states(folder)),
        Target("savings", ".json", [savings()], _recall(folder)),
        *(Target(f"record, {name}", ".json", record[name], _record(folder / name, name, record)) for name in record),
        Target("diffusers folder", ".json", [folder_file()], _folder(folder)),
        Target("API, JSON", ".json", API_JSON, _api(folder / "api", "application/json")),
        Target("API, TOML", ".toml", [toml, toml + b"\n" + DATASETS], _api(folder / "toml", "application/toml")),
    ]


# -- looks ---------------------------------------------------------------------------------------------------------


def _import_and_load(path: Path) -> None:
    import_report(path)
    load_job(path)


def _load_datasets(path: Path) -> None:
    training = path.with_name("beside.toml")
    training.write_text('output_name = "cat"\n', encoding="utf-8")
    try:
        load_job(training, path)
    finally:
        training.unlink()


def _captions(path: Path) -> None:
    for every_line in (False, True):
        text = read_caption_file(path, every_line)
        assert text is not None
        for subset in SUBSETS:
            final_caption(text, subset, random.Random(0), 1, 3, "zwx", 10)


def _picture(path: Path) -> None:
    errors = []
    for look in (picture_size, open_picture, check_picture):
        try:
            look(path)
        except AtelierError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _tensors(path: Path) -> None:
    import_report(path)
    try:
        for tensor in read_lora(path).tensors.values():
            tensor.sum()
    except AtelierError:
        pass
    load_checkpoint(path, torch.float32, torch.device("cpu"))


def _cached(folder: Path) -> Callable[[Path], Any]:
    cache = TensorCache(folder / "latents", "vae", memory_limit=0)

    def look(path: Path) -> Any:
        place = cache.path(path.read_bytes().hex()[:64])
        assert place is not None
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
        found = cache.get(path.read_bytes().hex()[:64])
        place.unlink(missing_ok=True)
        return None if found is None else found.shape

    return look


def _states(folder: Path) -> Callable[[Path], Any]:
    states = folder / "states"
    states.mkdir()

    def look(path: Path) -> Any:
        (states / "000000003.safetensors").write_bytes(path.read_bytes())
        return read_newest(states)

    return look


def _recall(folder: Path) -> Callable[[Path], Any]:
    run = folder / "savings"
    run.mkdir()

    def look(path: Path) -> Any:
        (run / "savers.json").write_bytes(path.read_bytes())
        return MemorySavings().recall(run)

    return look


def _record(run: Path, name: str, record: Mapping[str, Sequence[bytes]]) -> Callable[[Path], Any]:
    run.mkdir()
    for other, seeds in record.items():
        (run / other).write_bytes(seeds[0])

    def look(path: Path) -> Any:
        (run / name).write_bytes(path.read_bytes())
        job = found_job(run)
        assert job is not None
        job.record.saved_files()
        json.dumps([job.record.view(), job.summary(), job.kept_step], allow_nan=False)
        return job.config

    return look


def _folder(folder: Path) -> Callable[[Path], Any]:
    model = folder / "model"
    for part in ("unet", "vae", "text_encoder", "scheduler"):
        (model / part).mkdir(parents=True)

    def look(path: Path) -> Any:
        (model / "model_index.json").write_bytes(path.read_bytes())
        for part in ("unet", "vae", "text_encoder"):
            (model / part / "config.json").write_bytes(path.read_bytes())
        (model / "scheduler" / "scheduler_config.json").write_bytes(path.read_bytes())
        return load_checkpoint(model, torch.float32, torch.device("cpu"))

    return look


def _api(folder: Path, kind: str) -> Callable[[Path], Any]:
    folder.mkdir()
    site = Site(folder)
    site.train.finish()
    below = {"lora", "checkpoints", "runs", "cache", "pictures"}

    def look(path: Path) -> Any:
        asked = path.read_bytes().replace(b"PICTURES", site.pictures.as_posix().encode())
        answer = site.post("/jobs", content=asked, headers={"content-type": kind})
        assert answer.status_code in (200, 400, 403, 409, 413), (answer.status_code, answer.text)
        assert {entry.name for entry in folder.iterdir()} <= below, "a file outside the folders"
        if answer.status_code != 200:
            raise AtelierError(answer.json()["error"])
        finished(site.jobs, *site.jobs.jobs())
        return "started"

    return look
