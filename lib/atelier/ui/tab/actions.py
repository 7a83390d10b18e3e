"""What the tab answers when its controls change and when Train is pressed. Knows no Gradio component."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from atelier.adapters.usable import kind_remark
from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.config.settings.option import Option
from atelier.config.settings.schema import options
from atelier.hosts.contract import Host
from atelier.jobs.queue import Jobs
from atelier.training.pictures.class_pictures import class_folders
from atelier.ui.fields import SIMPLE, to_control
from atelier.ui.server.memory_line import MemoryLine
from atelier.ui.server.request import NameTaken, Request, check_name, has_pictures, job_of, model_to_train
from atelier.ui.tab.captioning import describe
from atelier.ui.tab.found_html import found_html, nothing_yet
from atelier.ui.tab.presets_in_tab import FROZEN, suggested, to_fill
from atelier.ui.tab.preview_data import Found, look_at

log = logging.getLogger(__name__)


@dataclass
class Reply:
    """What changes on the page: HTML of the two areas (None: as it is), controls by key, and what was filled in."""

    found: str | None = None
    message: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    filled: dict[str, Any] = field(default_factory=dict)


class Actions:
    """The answers of one tab. `filled` in its methods is what the last reply said it had filled in."""

    def __init__(self, jobs: Jobs, host: Host) -> None:
        self._jobs = jobs
        self._host = host
        self._memory = MemoryLine.of(jobs, host)

    def refresh(self, request: Request, filled: Mapping[str, Any]) -> Reply:
        """Looks at the pictures, and lets the untouched controls follow them."""
        first, *more = self.refreshing(request, filled)
        return replace(first, found=more[-1].found) if more else first

    def refreshing(self, request: Request, filled: Mapping[str, Any]) -> Iterator[Reply]:
        """The same in two parts: what to fill in comes at once, so that nobody has typed there meanwhile."""
        if not has_pictures(request):
            yield self._filled(request, filled, Reply(found=nothing_yet(self._model_line())), 0)
            return
        try:
            found = self._look(request, filled)
            found.notes.extend(self._class_notes(job_of(request, self._host)))
            name_note = self._name_note(request)
            reply = self._filled(
                request, filled, Reply(found=found_html(found, self._model_line(), name_note)), found.count
            )
            yield reply
            job = job_of(replace(request, values={**request.values, **reply.changes}, notes=[]), self._host)
            memory = self._memory.about(job, [picture.bucket for picture in found.pictures])
            if memory != "":
                yield Reply(found_html(found, self._model_line(), name_note, memory), filled=reply.filled)
        except AtelierError as error:
            yield Reply(found=error_html(str(error)), filled=dict(filled))
        except Exception as error:  # the page must go on, whatever is in the folder
            log.exception("the pictures could not be looked at")
            yield Reply(found=error_html(unexpected(error)), filled=dict(filled))

    def train(self, request: Request, filled: Mapping[str, Any]) -> Reply:
        """Puts the job into the queue, or says why not."""
        reply = Reply(filled=dict(filled))
        try:
            model_to_train(self._host)
            found = self._look(request, filled)
            reply.found = found_html(found, self._model_line(), "")
            self._filled(request, filled, reply, found.count)
            request = replace(request, values={**request.values, **reply.changes})
            name = str(request.values.get("output_name") or "").strip()
            check_name(name, self._jobs)
            waiting = sum(job.is_open for job in self._jobs.jobs())
            job = job_of(request, self._host)
            remark = kind_remark(job.settings, self._host.name)
            self._jobs.submit(job)
        except NameTaken as error:
            reply.changes["output_name"] = error.free
            reply.message = error_html(str(error))
        except AtelierError as error:
            reply.message = error_html(str(error))
        except Exception as error:  # a sentence for the page, the traceback for the log
            log.exception("Train failed")
            reply.message = error_html(unexpected(error))
        else:
            words = f"{name} is in the queue, {waiting} before it." if waiting else f"The training of {name} begins."
            reply.message = ok_html(f"{words} {remark}" if remark else words)
        return reply

    def describe(self, request: Request, captioner: str, filled: Mapping[str, Any]) -> Iterator[Reply]:
        """Has the host write captions for the pictures without one; a reply for each picture."""
        try:
            for state in describe(job_of(request, self._host), self._host, captioner):
                if state.finished:
                    reply = self.refresh(request, filled)
                    reply.message = ok_html(str(state)) if not state.problems else error_html(str(state))
                    yield reply
                else:
                    yield Reply(message=ok_html(str(state)), filled=dict(filled))
        except AtelierError as error:
            yield Reply(message=error_html(str(error)), filled=dict(filled))
        except Exception as error:  # a sentence for the page, the traceback for the log
            log.exception("describing the pictures failed")
            yield Reply(message=error_html(unexpected(error)), filled=dict(filled))

    def back_to_preset(self, request: Request) -> Reply:
        """Every control but the four fields as if it had never been touched."""
        values = dict(request.values)
        for option in options():
            if option.key in values and not is_simple(option):
                values[option.key] = to_control(option, option.default)
        reply = self.refresh(replace(request, values=values), {})
        reply.changes = {
            key: reply.changes.get(key, value) for key, value in values.items() if key in reply.changes or key in values
        }
        return reply

    def _look(self, request: Request, filled: Mapping[str, Any]) -> Found:
        """The pictures with the settings they will have: a first look counts them, the preset may then size them."""
        first = look_at(job_of(request, self._host), request.notes)
        changes = self._filled(request, filled, Reply(), first.count).changes
        if not changes:
            return first
        request = replace(request, values={**request.values, **changes}, notes=[])
        return look_at(job_of(request, self._host), request.notes)

    def _filled(self, request: Request, filled: Mapping[str, Any], reply: Reply, count: int) -> Reply:
        if FROZEN in filled:
            reply.filled = dict(filled)
            return reply
        whole = bool(request.values.get("train_whole_model"))
        wanted = suggested(str(request.values.get("subject")), count, self._host.loaded_model(), whole)
        reply.changes = to_fill(request.values, filled, wanted)
        reply.filled = wanted
        return reply

    def _name_note(self, request: Request) -> str:
        """What is wrong with the output name, before Train is pressed; "" while it is empty."""
        name = str(request.values.get("output_name") or "").strip()
        if not name:
            return ""
        try:
            check_name(name, self._jobs)
        except NameTaken as error:
            return f"There is a LoRA named {name} already; {error.free} is free."
        except AtelierError as error:
            return str(error)
        return ""

    def _class_notes(self, job: JobConfig) -> list[str]:
        """Which class pictures Train would draw first, or why it could not."""
        model = self._host.loaded_model()
        if model is None:
            return []
        try:
            folders = class_folders(job, self._host, model)[1]
        except AtelierError as error:
            return [str(error)]
        return [
            f"{each.missing} of {each.count} class pictures are drawn first: {each.prompt}."
            if each.missing
            else f"{each.count} class pictures are there: {each.prompt}."
            for each in folders
        ]

    def _model_line(self) -> str:
        model = self._host.loaded_model()
        if model is None:
            return "No model is loaded."
        return f"Trains on {model.title}." if not model.refusal else model.refusal


def is_simple(option: Option) -> bool:
    """True for the settings of the four fields."""
    return option.key in SIMPLE


def error_html(text: str) -> str:
    """A sentence for the page that is read out at once."""
    return f'<p class="atelier-error" role="alert">{html.escape(text)}</p>'


def ok_html(text: str) -> str:
    """A sentence for the page about what went well."""
    return f'<p class="atelier-ok" role="status">{html.escape(text)}</p>'


def unexpected(error: Exception) -> str:
    return f"Something went wrong that should not have: {type(error).__name__}: {error}. The log has the details."
