"""The HTTP routes under /atelier/v1, for the live panel and for programs."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from atelier.adapters.usable import kind_remark
from atelier.config.settings.schema import options
from atelier.hosts.contract import Host
from atelier.jobs.job import ACTIONS
from atelier.jobs.queue import Jobs
from atelier.training.inputs.as_drawn import unlike_drawn
from atelier.ui.finder import for_page
from atelier.ui.server.answers import (
    MODEL,
    NEWS,
    NO_STORE,
    RUN,
    Answers,
    Route,
    about,
    refusal,
    run_in_full,
    run_json,
    shown_save,
)
from atelier.ui.server.memory_line import MemoryLine
from atelier.ui.server.model_line import model_line
from atelier.ui.server.report_of import report_of
from atelier.ui.server.routes_kept import KeptRoutes
from atelier.ui.server.routes_start import START_BODY, check_model, job_from_body
from atelier.ui.server.security import Access, Refused, check_sample_name, read_body

PREFIX = "/atelier/v1"


def register(app: FastAPI, jobs: Jobs, host: Host, access: Access | None = None) -> None:
    """Adds the routes to an application, which may be running already, before any catch-all route in it.

    A second call on the same application replaces the routes of the first.
    """
    access = access or Access()
    routes = [*_Routes(jobs, host, access).table(), *KeptRoutes(jobs, host, access).table()]
    old = getattr(app.state, "atelier_routes", [])
    before = [route for route in app.router.routes if not any(route is one for one in old)]
    app.router.routes[:] = before
    for method, path, endpoint, more in routes:
        app.add_api_route(
            PREFIX + path, endpoint, methods=[method], tags=["Atelier"], response_class=JSONResponse, **more
        )
    added = app.router.routes[len(before) :]
    app.router.routes[:] = [*added, *before]
    app.state.atelier_routes = added
    app.openapi_schema = None


class _Routes:
    """One method per route. The docstrings are shown on the WebUI's API page."""

    def __init__(self, jobs: Jobs, host: Host, access: Access) -> None:
        self._jobs = jobs
        self._host = host
        self._access = access
        self._answers = answers = Answers(jobs, access)
        self._answer, self._job = answers.give, answers.job

    def table(self) -> list[Route]:
        """The routes of this class."""
        job = "/jobs/{job_id}"
        return [
            ("GET", "/jobs", self.list_runs, about("Runs", "JSON: `jobs`, `running`, `queued`, `size`, `trains_on`")),
            ("POST", "/jobs", self.start, about("Start a run", RUN + ", `settings`, `remarks`", body=START_BODY)),
            ("GET", job, self.show, about("One run with its settings", RUN + ", `settings`")),
            ("GET", job + "/events", self.events, about("What is new of a run", RUN + NEWS)),
            ("GET", job + "/samples/{file}", self.sample, about("A sample picture", "A picture", "image/png")),
            ("POST", job + "/{action}", self.act, about("Stop, pause, resume, save, sample", RUN)),
            ("GET", "/settings", self.settings, about("Every setting", "JSON: `settings`")),
            ("GET", "/memory", self.memory, about("The memory that the run on the page needs", "JSON: `sentences`")),
            ("GET", "/model", self.model, about("The model that a run would train on", MODEL)),
            ("GET", "/report", self.report, about("Text for a bug report", "Plain text", "text/plain")),
        ]

    async def list_runs(self, request: Request, limit: int = 50) -> Response:
        """All runs that have not ended, and the newest `limit` that have, oldest first.

        `running` is the id of the run that trains. `queued` has the ids of the runs that wait, the next one first.
        `size` is what the records of all runs take on the disk, in bytes, also of those that are not listed.
        `trains_on` is a sentence: what a run started now would be trained on, or why none can be.
        """

        def work() -> dict[str, Any]:
            runs = self._jobs.jobs()
            ended = [job for job in runs if not job.is_open]
            left_out = {job.id for job in ended[: max(0, len(ended) - max(0, limit))]}
            running = self._jobs.running
            return {
                "jobs": [run_json(job, self._host) for job in runs if job.id not in left_out],
                "running": running.id if running else None,
                "queued": self._jobs.queued,
                "size": sum(job.size for job in runs),
                "trains_on": model_line(self._host),
            }

        return await self._answer(request, work)

    async def start(self, request: Request) -> Response:
        """Puts a run into the queue. The answer is that of `GET /jobs/{job_id}` and `remarks`: what this WebUI cannot
        do with the file of such a run, and settings that differ from those it draws with.

        The body is JSON, `{"settings": {KEY: VALUE}}`, optionally with `"general"` and `"datasets"` as in a dataset
        TOML. Or it is a training TOML, which may have the tables of a dataset TOML in it. Keys are kohya's;
        `GET /settings` lists them. A name that is taken is answered with 409 and the next `free` name.
        """
        try:
            self._answers.check(request, changes=True)
            body = await read_body(request)
        except Refused as refused:
            return refusal(refused)

        def work() -> dict[str, Any]:
            config = job_from_body(body, request.headers.get("content-type", ""), self._host, self._access)
            check_model(self._host)
            free = self._jobs.free_name(config.name)
            if config.name and free != config.name:
                sentence = f"There is a {config.name} already, and saved files are not overwritten. {free} is free."
                raise Refused(409, sentence, free=free)
            remark = kind_remark(config.settings, self._host.name)
            own = [remark] if remark else []
            remarks = [*config.notes, *own, *unlike_drawn(config.settings, self._host)]
            return {**run_in_full(self._jobs.submit(config), self._host, self._access), "remarks": remarks}

        return await self._answer(request, work)

    async def show(self, request: Request, job_id: str) -> Response:
        """The state of a run, and the settings that it was started with."""
        return await self._answer(request, lambda: run_in_full(self._job(job_id), self._host, self._access))

    async def events(self, request: Request, job_id: str, since: int = 0, losses: str = "") -> Response:
        """The state of a run, and what is new since the last answer.

        `events` are those after number `since`: send `last_event` of the last answer. With `since` 0 they are all
        samples and saved files, and the newest messages. `checkpoint` is true for a saved checkpoint, false for a LoRA.
        `text` is the sentence of an event that has one.
        `losses.rows` are [step, loss, smoothed loss] after the cursor `losses`: send `losses.cursor` of the last
        answer. With `losses.reset` they replace all earlier rows.
        """

        def work() -> dict[str, Any]:
            job = self._job(job_id)
            news = job.record.view(since, losses)
            news["events"] = [
                shown_save(event, self._host) if event["kind"] == "saved" else event for event in news["events"]
            ]
            return {**run_json(job, self._host), **news}

        return await self._answer(request, work)

    async def act(self, request: Request, job_id: str, action: str) -> Response:
        """`stop` ends the run after its current step and keeps what was learned, or removes the run from the queue.
        `pause` frees the device. `resume` goes on, also with a run that ended early. `save` writes the LoRA as it is
        now, `sample` draws the sample pictures.
        """

        def work() -> dict[str, Any]:
            self._job(job_id)
            if action not in ACTIONS:
                raise Refused(404, f"There is no action {action!r}. There are {', '.join(ACTIONS)}.")
            method = {"save": "save_now", "sample": "sample_now"}.get(action, action)
            getattr(self._jobs, method)(job_id)
            return run_json(self._job(job_id), self._host)

        return await self._answer(request, work, changes=True)

    async def sample(self, request: Request, job_id: str, file: str) -> Response:
        """A sample picture, by the `file` of its event."""

        def work() -> Response:
            path = self._job(job_id).record.folder / "samples" / check_sample_name(file)
            if not path.is_file():
                raise Refused(404, "There is no such picture.")
            return FileResponse(path, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

        return await self._answer(request, work)

    async def settings(self, request: Request) -> Response:
        """Every setting: key, kind, default, bounds, choices, group, label and help.

        `content` is the default as the field of the tab holds it, `section` the element of the page that has the field.
        """
        return await self._answer(request, lambda: {"settings": [for_page(option) for option in options()]})

    async def model(self, request: Request) -> Response:
        """The loaded model, and the reason if it cannot be trained."""

        def work() -> dict[str, Any]:
            info = self._host.loaded_model()
            if info is None:
                return {"loaded": False}
            return {"loaded": True, "title": info.title, "family": info.family, "refusal": info.refusal}

        return await self._answer(request, work)

    async def memory(self, request: Request) -> Response:
        """The memory plan, as sentences, for the settings that the training tab held last.

        `sentences` is null while the plan is being computed, and empty when it is not known.
        """
        return await self._answer(request, lambda: {"sentences": MemoryLine.of(self._jobs, self._host).newest})

    async def report(self, request: Request) -> Response:
        """Plain text for a bug report: versions, WebUI, card, last errors, without names, folders and prompts."""

        def work() -> Response:
            text = report_of(self._host)
            return PlainTextResponse(text, headers={**NO_STORE, "X-Content-Type-Options": "nosniff"})

        return await self._answer(request, work)
