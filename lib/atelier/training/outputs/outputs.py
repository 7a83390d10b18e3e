"""Writes the LoRA files of a run: when, under which name, with a description and a preview, and how many are kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from atelier.adapters.files.checkpoint_hash import model_hashes
from atelier.adapters.files.kohya_file import lora_hashes, read_lora, save_lora, write_atomically
from atelier.adapters.files.metadata import DatasetFacts, RunFacts, lora_metadata
from atelier.adapters.files.sidecar import Sidecar, write_preview, write_sidecar
from atelier.adapters.network import Network
from atelier.config.errors import AtelierError
from atelier.data.summary import bucket_info, tag_frequency
from atelier.hosts.powers import card_version
from atelier.models.checkpoints.size import bytes_of
from atelier.models.registry import family_named
from atelier.training.context import RunContext, Save
from atelier.training.outputs.saving import (
    check_space,
    epoch_name,
    output_folder,
    remove_leftovers,
    remove_with_sidecars,
    step_name,
)

log = logging.getLogger(__name__)

EMA = "-ema"
"""Suffix of the name of a file with the moving average, when the weights themselves are saved too."""
BEGUN = "saving"
"""A note in the folder of a run's record: the file that the run was last about to write."""
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "float": torch.float32}


class Outputs:
    """Writes the network of a session to the host's LoRA folder, always under a new name."""

    def __init__(self, context: RunContext, network: Network, precision: str) -> None:
        self._context = context
        self._network = network
        self._precision = precision
        self.preview: Image.Image | None = None

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return output_folder(self._context.job.settings, self._context.host.folders)

    def due(self, step: int) -> list[str]:
        """The kinds of saves that are due after `step`: "epoch", "step", both or none. The last step saves anyway."""
        settings, step_schedule = self._context.job.settings, self._context.step_schedule
        if step >= step_schedule.total_steps:
            return []
        every = settings.save_every_n_epochs
        if settings.save_n_epoch_ratio and not every:
            every = max(1, step_schedule.epochs // settings.save_n_epoch_ratio)
        kinds = ["epoch"] if step_schedule.due(step, None, every) else []
        return kinds + (["step"] if step_schedule.due(step, settings.save_every_n_steps, None) else [])

    def check_room(self) -> None:
        """Raises `AtelierError` when the disk has too little space for the run's files. A LoRA is small."""

    def save(self, step: int, kind: str, suffix: str = "") -> Path | None:
        """Writes one file and adds it to the host's list. `kind`: "final", "epoch", "step" or "asked". `suffix`: of its
        name.

        When it cannot be written, there is a message and only this file is lost. Only the final file raises.
        """
        try:
            path = self._write(step, kind, suffix)
        except AtelierError as error:
            if kind == "final":
                raise
            self._context.record.message(f"Step {step} was not saved: {error} Training goes on.", "warning")
            return None
        self._context.record.saved(path, step, self._context.step_schedule.finished_epochs(step), kind)
        self._accompany(path)
        self._remove_old()
        return path

    def _write(self, step: int, kind: str, suffix: str) -> Path:
        context, settings = self._context, self._context.job.settings
        epoch = context.step_schedule.finished_epochs(step)
        name = self._name(step, epoch, kind) + suffix
        tensors = self._network.state_tensors(DTYPES[settings.save_precision])
        check_space(self.folder, bytes_of(tensors.values()))
        remove_leftovers(self.folder, settings.output_name)
        path = self._place(name, ".safetensors", lambda path: _holds(path, tensors))
        save_lora(path, tensors, self._metadata(step, epoch), overwrite=path.exists())
        if not any(save.path == path for save in context.saves):
            context.saves.append(Save(path, step, epoch, kind))
        return path

    def _name(self, step: int, epoch: int, kind: str) -> str:
        name = self._context.job.settings.output_name
        return {"final": name, "epoch": epoch_name(name, epoch)}.get(kind, step_name(name, step))

    def _place(self, name: str, ending: str, holds: Callable[[Path], bool] = lambda path: False) -> Path:
        """The path NAME with its ending, or NAME-2 … when another run's file has that name: it is not overwritten.

        A file of this run may be written again. In case the process was killed right after writing, it is noted before
        writing. A file that `holds` exactly the same weights also counts as this run's.
        """
        ours = {save.path for save in self._context.saves}
        begun = self._begun()
        first = path = self.folder / f"{name}{ending}"
        number = 1
        while path.exists() and path not in ours and path != begun and not holds(path):
            number += 1
            path = first.with_name(f"{name}-{number}{ending}")
        if path != first:
            warning = f"{first.name} belongs to another run, so this file is saved as {path.stem}."
            self._context.record.message(warning, "warning")
        self._begin(path)
        return path

    def _begun(self) -> Path | None:
        """The file that this run was last about to write; None when there is no note."""
        try:
            return Path((self._context.record.folder / BEGUN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _begin(self, path: Path) -> None:
        try:
            write_atomically(self._context.record.folder / BEGUN, str(path).encode(), overwrite=True)
        except AtelierError as error:  # on a full disk, writing the file itself will report it
            log.warning("the name of the next file could not be noted: %s", error)

    def _accompany(self, path: Path) -> None:
        """Writes description and preview beside the file and updates the host's list. The file survives failures."""
        context = self._context
        family = family_named(str(context.base.family))
        try:
            write_sidecar(
                path,
                Sidecar(
                    activation_text=context.job.trigger,
                    card_version=card_version(context.host, family.name) or family.card_version,
                ),
            )
            picture = self.preview or self._earlier_picture(path)
            if picture is not None:
                write_preview(path, picture)
        except AtelierError as error:
            context.record.message(f"{path.stem} was saved, but its description was not: {error}", "warning")
        if path.parent != context.host.folders.lora:
            return
        try:
            context.host.publish_lora(path)
        except Exception as error:  # the host's own code failed, but the file is complete and training goes on
            log.exception("the host could not be told of %s", path)
            reason = f"{type(error).__name__}: {error}"
            context.record.message(f"{path.stem} was saved, but the WebUI does not list it yet ({reason}).", "warning")

    def _metadata(self, step: int, epoch: int) -> dict[str, str]:
        context = self._context
        return lora_metadata(
            context.job.settings, context.job.datasets, run_facts(context, self._precision), step, epoch, time.time()
        )

    def _earlier_picture(self, path: Path) -> Image.Image | None:
        """The preview that an earlier session wrote for the save at `path`."""
        step = next((save.step for save in self._context.saves if save.path == path), 0)
        return kept_picture(self._context.record.folder / "samples", step, self._context.first_step)

    def _remove_old(self) -> None:
        """Removes old files of this run, as save_last_n_epochs and save_last_n_steps say."""
        settings, saves = self._context.job.settings, self._context.saves
        old: list[Save] = []
        for average in (False, True):
            own = [save for save in saves if save.path.stem.endswith(EMA) == average]
            if settings.save_last_n_epochs:
                old += [save for save in own if save.kind == "epoch"][: -settings.save_last_n_epochs]
            if settings.save_last_n_steps:
                newest = max((save.step for save in own), default=0)
                old += [s for s in own if s.kind == "step" and s.step < newest - settings.save_last_n_steps]
        for save in old:
            try:
                self._discard(save.path)
            except OSError as error:
                self._context.record.message(f"{save.path.name} could not be removed: {error.strerror}.", "warning")
            saves.remove(save)

    def _discard(self, path: Path) -> None:
        """Removes a file that this run wrote, with its description and preview."""
        remove_with_sidecars(path)


def kept_picture(folder: Path, step: int, first_step: int = 0) -> Image.Image | None:
    """The newest sample picture of the first prompt (STEP-0.png) up to `step`; None when none can be read.

    That of `first_step` is left out, as it shows nothing of what was learned.
    """
    pictures = [path for path in sorted(folder.glob("*-0.png")) if path.stem[:-2].isdigit()]
    for path in reversed(pictures):
        if first_step < int(path.stem[:-2]) <= step:
            try:
                with Image.open(path) as picture:
                    return picture.convert("RGB")
            except OSError as error:
                log.warning("the sample picture %s cannot be read: %s", path, error)
    return None


def _holds(path: Path, tensors: dict[str, Tensor]) -> bool:
    """True when the LoRA file at `path` has exactly these weights."""
    try:
        return read_lora(path).metadata.get("sshs_model_hash") == lora_hashes(tensors, {})[0]
    except AtelierError:
        return False


def run_facts(context: RunContext, precision: str) -> RunFacts:
    """The facts about the run and its base for the metadata."""
    job, base = context.job, context.base
    short, full = model_hashes(base.path)
    scan = context.data.scan
    facts = []
    for index, dataset in enumerate(job.datasets.datasets):
        pictures = [picture for picture in scan.pictures if picture.dataset == index]
        buckets: dict[tuple[int, int], int] = {}
        for picture in pictures:
            buckets[picture.bucket] = buckets.get(picture.bucket, 0) + picture.repeats
        facts.append(
            DatasetFacts(
                train_images=sum(picture.repeats for picture in pictures if not picture.is_reg),
                reg_images=sum(picture.repeats for picture in pictures if picture.is_reg),
                pictures=tuple(sum(picture.subset is subset for picture in pictures) for subset in dataset.subsets),
                buckets=tuple(buckets.items()),
                mean_aspect_error=float(bucket_info(scan).get("mean_img_ar_error", 0.0)),
                tag_frequency=tag_frequency(scan) if index == 0 else {},
            )
        )
    return RunFacts(
        family=family_named(str(base.family)),
        prediction_type=base.prediction_type,
        session_id=str(context.seed),
        seed=context.seed,
        started_at=context.started_at,
        max_train_steps=context.step_schedule.total_steps,
        num_epochs=context.step_schedule.epochs,
        batches_per_epoch=context.step_schedule.batches_per_epoch,
        datasets=tuple(facts),
        base_name=base.path.name if base.path else base.title,
        base_hash=short,
        base_new_hash=full,
        precision=precision,
    )
