"""The routes under /atelier/v1: what the live panel reads, and the same for scripts."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig, job_from_settings
from atelier.config.schema import options
from atelier.config.toml_in import Document, parse_document, settings_from
from atelier.hosts.contract import Host
from atelier.jobs.job import Job
from atelier.jobs.queue import Jobs
from atelier.ui.security import Refused, check_file_name, check_origin, parse_json, read_body

PREFIX = "/atelier/v1"
ACTIONS = ("stop", "pause", "resume", "save", "sample")
Guard = Callable[[Request], None]


@dataclasses.dataclass(frozen=True)
class Access:
    """What the host demands of a request: `guard` raises `Refused`; without `paths` nothing may name a folder."""

    guard: Guard | None = None
    paths: bool = True


def register(app: FastAPI, jobs: Jobs, host: Host, access: Access | None = None) -> None:
    """Adds the routes to an application, before any catch-all that it has mounted already."""
    routes = _Routes(jobs, host, access or Access())
    router = APIRouter(prefix=PREFIX, tags=["Atelier"])
    router.add_api_route("/jobs", routes.list_jobs, methods=["GET"])
    router.add_api_route("/jobs", routes.start, methods=["POST"], openapi_extra=_START_BODY)
    router.add_api_route("/jobs/{job_id}", routes.show, methods=["GET"])
    router.add_api_route("/jobs/{job_id}/events", routes.events, methods=["GET"])
    router.add_api_route("/jobs/{job_id}/samples/{file}", routes.sample, methods=["GET"])
    router.add_api_route("/jobs/{job_id}/{action}", routes.act, methods=["POST"])
    router.add_api_route("/settings", routes.settings, methods=["GET"])
    router.add_api_route("/model", routes.model, methods=["GET"])
    before = list(app.router.routes)
    app.include_router(router)
    added = [route for route in app.router.routes if route not in before]
    app.router.routes[:] = added + before
    app.openapi_schema = None


class _Routes:
    def __init__(self, jobs: Jobs, host: Host, access: Access) -> None:
        self._jobs = jobs
        self._host = host
        self._access = access

    async def list_jobs(self, request: Request) -> Response:
        """Every run, oldest first: id, name, state, step."""
        return await self._answer(request, lambda: {"jobs": [job.summary() for job in self._jobs.jobs()]})

    async def start(self, request: Request) -> Response:
        """Starts a run. The body is JSON, {"settings": {KEY: VALUE}}, or a training TOML as text. Gives its id."""

        async def start() -> dict[str, Any]:
            job = self._jobs.submit(self._job_of(request, await read_body(request)))
            return job.summary()

        return await self._answer(request, start, changes=True)

    async def show(self, request: Request, job_id: str) -> Response:
        """One run: its state and its settings."""

        def show() -> dict[str, Any]:
            job = self._jobs.get(job_id)
            return {**job.summary(), "settings": dataclasses.asdict(job.config.settings)}

        return await self._answer(request, show)

    async def events(self, request: Request, job_id: str, since: int = 0, loss: int = 0) -> Response:
        """What happened after event number `since` and after the first `loss` losses, and where the run stands."""

        def events() -> dict[str, Any]:
            job = self._jobs.get(job_id)
            return {**job.summary(), **_without_paths(job, since, loss)}

        return await self._answer(request, events)

    async def act(self, request: Request, job_id: str, action: str) -> Response:
        """stop, pause, resume, save (a file now) or sample (pictures now)."""

        def act() -> dict[str, Any]:
            if action not in ACTIONS:
                raise Refused(404, f"There is no action {action!r}; there are {', '.join(ACTIONS)}.")
            method = {"save": "save_now", "sample": "sample_now"}.get(action, action)
            getattr(self._jobs, method)(job_id)
            return self._jobs.get(job_id).summary()

        return await self._answer(request, act, changes=True)

    async def sample(self, request: Request, job_id: str, file: str) -> Response:
        """A sample picture of a run."""

        def sample() -> Response:
            path = self._jobs.get(job_id).record.folder / "samples" / check_file_name(file)
            if not path.is_file():
                raise Refused(404, "There is no such picture.")
            return FileResponse(path, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

        return await self._answer(request, sample)

    async def settings(self, request: Request) -> Response:
        """Every setting: key, kind, default, bounds, choices, help."""
        return await self._answer(request, lambda: {"settings": [dataclasses.asdict(option) for option in options()]})

    async def model(self, request: Request) -> Response:
        """The model that would be trained on, and why not if it cannot."""

        def model() -> dict[str, Any]:
            info = self._host.loaded_model()
            if info is None:
                return {"loaded": False}
            return {"loaded": True, "title": info.title, "family": info.family, "refusal": info.refusal}

        return await self._answer(request, model)

    # -- shared ---------------------------------------------------------------------------------------------------

    async def _answer(
        self, request: Request, work: Callable[[], Any | Awaitable[Any]], changes: bool = False
    ) -> Response:
        """Checks the request, does the work, and puts an error into one sentence."""
        try:
            if self._access.guard is not None:
                self._access.guard(request)
            if changes:
                check_origin(request)
            result = work()
            if isinstance(result, Awaitable):
                result = await result
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, status_code=refused.status)
        except AtelierError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return result if isinstance(result, Response) else JSONResponse(result)

    def _job_of(self, request: Request, body: bytes) -> JobConfig:
        if request.headers.get("content-type", "").startswith("application/json"):
            content = parse_json(body)
            settings = content.get("settings", {})
            if not isinstance(settings, dict):
                raise Refused(400, "settings must be a JSON object.")
            document = Document("settings", "", settings)
        else:
            document = parse_document(body.decode("utf-8", errors="replace"), "the TOML")
        found = settings_from(document)
        named = [found.train_data_dir, found.reg_data_dir, found.output_dir, found.network_weights, *found.base_weights]
        if not self._access.paths and any(named):
            raise Refused(403, "This WebUI is open to the network without a login: runs that name folders are refused.")
        return job_from_settings(found)


def _without_paths(job: Job, since: int, loss: int) -> dict[str, Any]:
    """The record's news, without where on this machine files lie."""
    news = job.record.view(since)
    news["events"] = [{name: value for name, value in row.items() if name != "path"} for row in news["events"]]
    every = job.record.view()["events"]
    news["samples"] = [event for event in every if event["kind"] == "sample"]
    news["saves"] = [event for event in every if event["kind"] == "saved"]
    news["losses"] = [[step, value, news["rates"]] for step, value, _ in news["losses"]["rows"][loss:]]
    return news


_START_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"settings": {"type": "object"}}},
                "example": {"settings": {"output_name": "my_cat", "trigger": "zwx", "train_data_dir": "pictures"}},
            },
            "application/toml": {"schema": {"type": "string"}},
        },
    }
}
