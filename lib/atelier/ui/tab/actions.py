"""The tab's reactions to changed controls and pressed buttons, as data: knows no Gradio component."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from atelier.adapters.usable import kind_remark
from atelier.config.errors import AtelierError
from atelier.config.given_paths import check_paths
from atelier.config.job import JobConfig
from atelier.config.settings.option import Option
from atelier.config.settings.schema import option, options
from atelier.hosts.contract import Host, ModelInfo
from atelier.jobs.queue import Jobs
from atelier.training.inputs.as_drawn import compared, followed
from atelier.training.pictures.class_pictures import class_folders
from atelier.ui.fields import SIMPLE, to_control
from atelier.ui.finder import recommended
from atelier.ui.server.form import LastForm
from atelier.ui.server.memory_line import MemoryLine
from atelier.ui.server.request import NameTaken, Request, check_name, has_pictures, job_of, model_to_train
from atelier.ui.tab.captioning import describe
from atelier.ui.tab.found_html import found_html, nothing_yet
from atelier.ui.tab.messages import error_html, ok_html, run_html, unexpected
from atelier.ui.tab.presets_in_tab import FROZEN, following, steps_by_hand, suggested, to_fill
from atelier.ui.tab.preview_data import Found, look_at

log = logging.getLogger(__name__)


@dataclass
class Reply:
    """Changes of the page: HTML of its two areas (None: unchanged), controls by key, and the filled-in values."""

    found: str | None = None
    message: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    filled: dict[str, Any] = field(default_factory=dict)
    checked: dict[str, str] | None = None
    """The model that the form was checked for: `Request.checked` of the next request. None: unchanged."""


class Actions:
    """The reactions of one tab. `filled` in its methods is `Reply.filled` of the last reply."""

    def __init__(self, jobs: Jobs, host: Host) -> None:
        self._jobs = jobs
        self._host = host
        self._memory = MemoryLine.of(jobs, host)
        self._form = LastForm.of(jobs, host)

    def refresh(self, request: Request, filled: Mapping[str, Any]) -> Reply:
        """Looks at the pictures and fills the recommended values into the controls that the person did not touch."""
        first, *more = self.refreshing(request, filled)
        return replace(first, found=more[-1].found) if more else first

    def refreshing(self, request: Request, filled: Mapping[str, Any]) -> Iterator[Reply]:
        """Like `refresh`, but in two replies. The values come first, before the person can type into a control."""
        if not has_pictures(request):
            reply = self._filled(request, filled, Reply(found=nothing_yet()), 0)
            # With what is filled in: defaults that come back later would count as the person's own values.
            self._form.keep(replace(request, values={**request.values, **reply.changes}))
            yield reply
            return
        try:
            found = self._look(request, filled)
            found.notes.extend(self._class_notes(job_of(request, self._host)))
            name_note = self._name_note(request)
            reply = self._filled(request, filled, Reply(), found.count, found.steps)
            request = replace(request, values={**request.values, **reply.changes}, notes=[])
            job = job_of(request, self._host)
            found.notes.extend(compared(job.settings, self._host, self._family()))
            reply.found = found_html(found, name_note)
            yield reply
            self._form.keep(request, job.settings.train_data_dir)
            memory = self._memory.about(job, [picture.bucket for picture in found.pictures])
            if memory != "":
                yield Reply(found_html(found, name_note, memory), filled=reply.filled)
        except AtelierError as error:
            self._form.keep(request)
            yield Reply(found=error_html(error), filled=dict(filled))
        except Exception as error:  # the page must keep working, whatever is in the folder
            log.exception("the pictures could not be looked at")
            yield Reply(found=error_html(unexpected(error)), filled=dict(filled))

    def train(self, request: Request, filled: Mapping[str, Any]) -> Reply:
        """Puts the job into the queue, or says why not."""
        reply = Reply(filled=dict(filled))
        try:
            model = model_to_train(self._host)
            found = self._look(request, filled)
            reply.found = found_html(found, "")
            self._filled(request, filled, reply, found.count, found.steps)
            _check_model(request, model)
            request = replace(request, values={**request.values, **reply.changes})
            name = str(request.values.get("output_name") or "").strip()
            check_name(name, self._jobs)
            waiting = sum(job.is_open for job in self._jobs.jobs())
            job = job_of(request, self._host)
            check_paths(job)
            self._form.keep(request, job.settings.train_data_dir)
            remark = kind_remark(job.settings, self._host.name)
            run = self._jobs.submit(job)
        except NameTaken as error:
            reply.changes["output_name"] = error.free
            reply.message = error_html(error)
        except AtelierError as error:
            reply.message = error_html(error)
        except Exception as error:  # a sentence for the page, the traceback for the log
            log.exception("Train failed")
            reply.message = error_html(unexpected(error))
        else:
            words = (
                f"{name} is in the queue. Runs before it: {waiting}." if waiting else f"The training of {name} starts."
            )
            states = ("queued",) if waiting else ("queued", "preparing")
            reply.message = run_html(f"{words} {remark}" if remark else words, run.id, states)
        return reply

    def describe(self, request: Request, captioner: str, filled: Mapping[str, Any]) -> Iterator[Reply]:
        """Lets the host write captions for the pictures without one. Yields a reply for each picture."""
        try:
            for state in describe(job_of(request, self._host), self._host, captioner):
                if state.finished:
                    reply = self.refresh(request, filled)
                    reply.message = error_html(str(state)) if state.problems else ok_html(str(state))
                    yield reply
                else:
                    yield Reply(message=ok_html(str(state)), filled=dict(filled))
        except AtelierError as error:
            yield Reply(message=error_html(error), filled=dict(filled))
        except Exception as error:  # a sentence for the page, the traceback for the log
            log.exception("describing the pictures failed")
            yield Reply(message=error_html(unexpected(error)), filled=dict(filled))

    def fill(self, request: Request, name: str = "") -> Reply:
        """Puts the values of `request`, which come from elsewhere, into the controls.

        Those that hold what is recommended go on following the pictures; the others count as the person's own. `name`
        is the output name of the run that they come from; the form then gets one that is free.
        """
        values = dict(request.values)
        if name:
            values["output_name"] = self._jobs.free_name(name)
        request = replace(request, values=values)
        reply = self.refresh(request, self._recommended(request))
        reply.changes = {**values, **reply.changes}
        reply.message = ok_html(f"The settings of {name} are in the form.") if name else ""
        return reply

    def _recommended(self, request: Request) -> dict[str, Any]:
        """What is recommended for the pictures and the model of a form."""
        if (request.imported or {}).get("datasets"):
            return {FROZEN: True}
        try:
            count = look_at(job_of(request, self._host)).count if has_pictures(request) else 0
        except AtelierError:  # said when the form is looked at
            count = 0
        return self._filled(request, {}, Reply(), count).filled

    def back_to_preset(self, request: Request) -> Reply:
        """Resets every control but the four fields to its recommended value."""
        values = dict(request.values)
        for known in options():
            if known.key in values and not is_simple(known):
                values[known.key] = to_control(known, known.default)
        reply = self.refresh(replace(request, values=values), {})
        reply.changes = {
            key: reply.changes.get(key, value) for key, value in values.items() if key in reply.changes or key in values
        }
        return reply

    def reset_one(self, request: Request, filled: Mapping[str, Any], key: str) -> Reply:
        """Resets one control to its recommended value, or to its default while the form holds a file's settings."""
        value = recommended(key, {} if FROZEN in filled else filled)
        reply = self.refresh(replace(request, values={**request.values, key: value}), filled)
        reply.changes = {key: value, **reply.changes}
        return reply

    def _look(self, request: Request, filled: Mapping[str, Any]) -> Found:
        """Looks at the pictures with the settings of the run, which follow from the number of pictures."""
        first = look_at(job_of(request, self._host), request.notes)
        changes = self._filled(request, filled, Reply(), first.count, first.steps).changes
        if not changes:
            return first
        request = replace(request, values={**request.values, **changes}, notes=[])
        return look_at(job_of(request, self._host), request.notes)

    def _filled(
        self, request: Request, filled: Mapping[str, Any], reply: Reply, count: int, steps: int | None = None
    ) -> Reply:
        """`reply` with what the presets fill in. `steps`: of the run as the controls have it."""
        model = self._host.loaded_model()
        reply.checked = {"identity": model.identity, "title": model.title} if model is not None else {}
        if FROZEN in filled:
            reply.filled = dict(filled)
            return reply
        whole = bool(request.values.get("train_whole_model"))
        by_epochs = str(request.values.get("max_train_epochs") or "").strip()
        steps = steps if by_epochs else steps_by_hand(request.values, filled)
        wanted = suggested(str(request.values.get("subject")), count, model, whole, steps)
        wanted |= {key: to_control(option(key), value) for key, value in followed(self._host, self._family()).items()}
        wanted = following(request.values, filled, wanted)
        reply.changes = to_fill(request.values, filled, wanted)
        reply.filled = wanted
        return reply

    def _family(self) -> str:
        """The family of the loaded model; SD1 until one is loaded that can be trained."""
        model = self._host.loaded_model()
        return model.family if model is not None and model.family is not None else "sd1"

    def _name_note(self, request: Request) -> str:
        """A sentence about a wrong output name, before Train is pressed; "" for a good or an empty name."""
        name = str(request.values.get("output_name") or "").strip()
        if not name or any(job.is_open and job.name == name for job in self._jobs.jobs()):
            return ""  # of a run that goes on, the form still holds the name; Train would say so
        try:
            check_name(name, self._jobs)
        except NameTaken as error:
            return f"There is a LoRA named {name} already; {error.free} is free."
        except AtelierError as error:
            return str(error)
        return ""

    def _class_notes(self, job: JobConfig) -> list[str]:
        """Sentences about the class pictures that Train would draw first, or why it could not."""
        model = self._host.loaded_model()
        if model is None:
            return []
        try:
            folders = class_folders(job, self._host, model)[1]
        except AtelierError as error:
            return [str(error)]
        return [
            f"{folder.missing} of {folder.count} class pictures are drawn before the training: {folder.prompt}."
            if folder.missing
            else f"All {folder.count} class pictures exist already: {folder.prompt}."
            for folder in folders
        ]


def _check_model(request: Request, model: ModelInfo) -> None:
    """Raises `AtelierError` when the form was checked for another model: first it is said what is trained on now."""
    before = request.checked or {}
    if before.get("identity") in (None, model.identity):
        return
    raise AtelierError(
        f"The checkpoint is now {model.title}; this form was checked for {before.get('title')}. Recommended values "
        f"now suit {model.title}. Press Train again to train on it."
    )


def is_simple(option: Option) -> bool:
    """True for the settings of the four fields."""
    return option.key in SIMPLE
