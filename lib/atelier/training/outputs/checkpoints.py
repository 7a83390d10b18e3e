"""Writes the checkpoints of a run that trains the whole model."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from atelier.adapters.files.metadata import modelspec
from atelier.adapters.network import Network
from atelier.models.checkpoints.save import save_checkpoint
from atelier.models.checkpoints.size import bytes_of, numbers_of
from atelier.training.context import RunContext, Save
from atelier.training.outputs.outputs import DTYPES, EMA, Outputs, run_facts
from atelier.training.outputs.saving import check_space, existing, remove_leftovers
from atelier.training.trained.whole_model import WholeModel

log = logging.getLogger(__name__)

KINDS = {
    "safetensors": ("safetensors", ".safetensors"),
    "ckpt": ("ckpt", ".ckpt"),
    "pt": ("ckpt", ".ckpt"),
    "diffusers": ("diffusers", ""),
    "diffusers_safetensors": ("diffusers", ""),
}
"""kohya's save_model_as -> our format and the file ending."""


STATES = 2
"""States on disk at once, since a new state is written before the oldest is removed. Only weights are counted in them,
since optimizers differ."""


class CheckpointOutputs(Outputs):
    """Writes the whole model to the host's checkpoint folder: trained parts, and the rest from the base's file."""

    def __init__(self, context: RunContext, model: WholeModel, precision: str) -> None:
        self._context = context
        self._model = model
        self._precision = precision
        self.preview = None

    def check_room(self) -> None:
        """Raises `AtelierError` when the disk has too little space for the checkpoints to keep and for the states."""
        context, settings = self._context, self._context.job.settings
        step_schedule = context.step_schedule
        steps = range(context.first_step + 1, step_schedule.total_steps + 1)
        kinds = [kind for step in steps for kind in self.due(step)]
        kept = 1 + _kept(kinds.count("epoch"), settings.save_last_n_epochs)
        by_steps = settings.save_last_n_steps and settings.save_last_n_steps // (settings.save_every_n_steps or 1) + 1
        kept += _kept(kinds.count("step"), by_steps)
        averages = 2 if settings.ema_decay and settings.ema_save == "beside" else 1
        files = self._file_size() * kept * averages
        trained = bytes_of(p for p in self._model.parameters() if p.requires_grad)
        states = STATES * trained
        if _same_disk(self.folder, context.record.folder):
            check_space(self.folder, files + states, f"the {kept * averages} checkpoints and the states of this run")
        else:
            check_space(self.folder, files, f"the {kept * averages} checkpoints of this run")
            check_space(context.record.folder, states, "the states of this run")

    def _file_size(self) -> int:
        dtype = DTYPES[self._context.job.settings.save_precision]
        return numbers_of(self._model.parts.parameters()) * dtype.itemsize

    def _discard(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _write(self, step: int, kind: str, suffix: str) -> Path:
        context, settings = self._context, self._context.job.settings
        epoch = context.step_schedule.finished_epochs(step)
        form, ending = KINDS[settings.save_model_as]
        dtype = DTYPES[settings.save_precision]
        remove_leftovers(self.folder, settings.output_name)
        check_space(self.folder, self._file_size())
        path = self._place(self._name(step, epoch, kind) + suffix, ending)
        base = context.base.path if context.base.path is not None and context.base.path.exists() else None
        save_checkpoint(path, self._model.parts, base, form, dtype, metadata=self._about(step, epoch))
        if not any(save.path == path for save in context.saves):
            context.saves.append(Save(path, step, epoch, kind))
        return path

    def _about(self, step: int, epoch: int) -> dict[str, str]:
        """The metadata of a checkpoint: modelspec, and how it was made."""
        context = self._context
        facts = run_facts(context, self._precision)
        values = modelspec(context.job.settings, facts, time.time())
        values["modelspec.architecture"] = facts.family.architecture(facts.prediction_type)
        made = {
            "ss_sd_model_name": facts.base_name,
            "ss_sd_model_hash": facts.base_hash,
            "ss_new_sd_model_hash": facts.base_new_hash,
            "ss_steps": step,
            "ss_epoch": epoch,
            "ss_seed": facts.seed,
            "ss_learning_rate": context.job.settings.learning_rate,
            "ss_output_name": context.job.name,
        }
        return {**values, **{key: str(value) for key, value in made.items() if value is not None}}

    def _accompany(self, path: Path) -> None:
        """Adds the checkpoint to the host's list, and loads the last one if that was asked for."""
        context = self._context
        if path.parent != context.host.folders.checkpoints:
            return
        saved = next((save for save in context.saves if save.path == path), None)
        final = saved is not None and saved.kind == "final" and not path.stem.endswith(EMA)
        try:
            context.host.publish_checkpoint(path, load=final and context.job.settings.load_when_done)
        except Exception as error:  # the host's own code failed, but the file is complete
            log.exception("the host could not be told of %s", path)
            reason = f"{type(error).__name__}: {error}"
            context.record.message(f"{path.name} was saved, but the WebUI does not list it yet ({reason}).", "warning")


def _kept(count: int, limit: int | None) -> int:
    """The most of `count` files that exist at once; a new file is written before an old one is removed."""
    return min(count, limit + 1) if limit else count


def _same_disk(first: Path, second: Path) -> bool:
    return existing(first).stat().st_dev == existing(second).stat().st_dev


def outputs_for(context: RunContext, trained: Network | WholeModel, precision: str) -> Outputs:
    """The writer of a run's files: of a LoRA or of a whole model."""
    if isinstance(trained, WholeModel):
        return CheckpointOutputs(context, trained, precision)
    return Outputs(context, trained, precision)
