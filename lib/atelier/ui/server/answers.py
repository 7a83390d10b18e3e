"""How the routes answer: checks, errors as sentences, runs as JSON, and what the API page says of each route."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from atelier.config.errors import AtelierError, SettingsError
from atelier.config.settings.named import PATH_SETTINGS, PRIVATE_SETTINGS
from atelier.hosts.contract import Host
from atelier.jobs.files import plain
from atelier.jobs.job import Job
from atelier.jobs.queue import Jobs
from atelier.jobs.story import save_label
from atelier.ui.server.security import Access, Refused, check_host, check_origin

log = logging.getLogger(__name__)

NO_STORE = {"Cache-Control": "no-store"}


Route = tuple[str, str, Callable[..., Any], dict[str, Any]]
"""A route: method, path, function, and more for the API page."""


class Answers:
    """How every route answers: it checks the request, does the work, and turns errors into sentences."""

    def __init__(self, jobs: Jobs, access: Access) -> None:
        self._jobs = jobs
        self._access = access

    def check(self, request: Request, changes: bool) -> None:
        """Raises `Refused` for a request that may not be answered, or may not change anything."""
        if self._access.local:
            check_host(request)
        if self._access.guard is not None:
            self._access.guard(request)
        if changes:
            check_origin(request)

    async def give(self, request: Request, work: Callable[[], Any], changes: bool = False) -> Response:
        """Checks the request and does the work in a thread, since disks can be slow. An error becomes a sentence."""
        try:
            self.check(request, changes)
            result = await run_in_threadpool(work)
        except Refused as refused:
            return refusal(refused)
        except SettingsError as error:
            problems = [{"key": problem.key, "problem": str(problem)} for problem in error.problems]
            return refusal(Refused(400, str(error), problems=problems))
        except AtelierError as error:
            return refusal(Refused(400, str(error)))
        except Exception as error:
            log.exception("a request to %s failed", request.url.path)
            return refusal(Refused(500, f"This failed unexpectedly ({type(error).__name__}). See the console."))
        return result if isinstance(result, Response) else JSONResponse(plain(result), headers=NO_STORE)

    def job(self, job_id: str) -> Job:
        """The run with this id. Raises `Refused` when there is none."""
        try:
            return self._jobs.get(job_id)
        except AtelierError as error:
            raise Refused(404, str(error)) from error


def run_json(job: Job, host: Host) -> dict[str, Any]:
    """A run for a list of runs."""
    summary = job.summary()
    return {**summary, "saved": shown_save(summary["saved"], host) if summary["saved"] else None}


def run_in_full(job: Job, host: Host, access: Access) -> dict[str, Any]:
    """A run with its settings, without those that may hold a secret; for some people also without all places."""
    try:
        settings: dict[str, Any] | None = dataclasses.asdict(job.config.settings)
    except AtelierError:  # a record that is damaged or of a newer version is shown without settings
        settings = None
    if settings is not None:
        left_out = PRIVATE_SETTINGS if access.paths else (*PRIVATE_SETTINGS, *PATH_SETTINGS)
        settings = {key: value for key, value in settings.items() if key not in left_out}
    return {**run_json(job, host), "settings": settings}


def shown_save(save: dict[str, Any], host: Host) -> dict[str, Any]:
    """A saved file without its place; `label` says which one it is, `checkpoint` whether it is a whole model."""
    shown = {key: value for key, value in save.items() if key != "path"}
    shown["label"] = save_label(save)
    path = save.get("path")
    if path:
        shown["checkpoint"] = Path(path).parent == host.folders.checkpoints
    return shown


def refusal(refused: Refused) -> Response:
    """The answer to a request that is refused: a sentence in `error`, and what else is known."""
    headers = {**NO_STORE, **refused.headers}
    return JSONResponse(plain({"error": str(refused), **refused.more}), refused.status, headers=headers)


def about(summary: str, answer: str, kind: str = "", body: dict[str, Any] | None = None) -> dict[str, Any]:
    """For the API page: what a route does, what comes back, of which kind that is if it is no JSON, and the body."""
    responses: dict[int, Any] | None = {200: {"content": {kind: {}}}} if kind else None
    return {"summary": summary, "response_description": answer, "responses": responses, "openapi_extra": body}


RUN = "JSON: the run"
NEWS = ", `progress`, `events`, `last_event`, `losses`, `rates`"
MODEL = "JSON: `loaded`, `title`, `family`, `refusal`"
FORM = "JSON: `values`, `caption_from_name`, `imported`"
DISK = "JSON: `runs`, `caches`, `dropped`"
