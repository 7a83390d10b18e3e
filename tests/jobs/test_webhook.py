"""A webhook is told when a run ends or waits, and nothing that it does disturbs the run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from atelier.jobs import webhook
from atelier.jobs.queue import Jobs
from atelier.jobs.record import Record
from tests.support.jobs_fakes import PATIENCE, FakeHost, Steered, ended_by, finished, job_named
from tests.support.waiting import until


class Listener(ThreadingHTTPServer):
    """Notes what it is sent, and answers as a test wants it to."""

    daemon_threads = True

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.status = 204
        self.answers = threading.Event()
        self.answers.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.told.append((self.path, json.loads(body)))
                server.answers.wait(PATIENCE)
                self.send_response(server.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                server.told.append((self.path, {}))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/secret"


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.answers.set()
    server.shutdown()
    server.server_close()


def warnings(record: Record) -> list[str]:
    return [event["text"] for event in record.view()["events"] if event.get("level") == "warning"]


def test_the_end_of_a_run_is_told(tmp_path: Path, listener: Listener) -> None:
    jobs = Jobs(FakeHost(tmp_path), steered := Steered(total=3))
    job = jobs.submit(job_named("cat", webhook_url=listener.url))
    silent = jobs.submit(job_named("dog"))
    steered.finish()
    finished(jobs, job, silent)
    until(lambda: listener.told, "being told")
    assert listener.told == [
        ("/secret", {
            "run": job.id, "name": "cat", "state": "done", "message": "Done.", "file": "cat", "trains": "lora",
            "step": 3, "total": 3,
        })
    ]  # fmt: skip
    jobs.close(PATIENCE)
    assert warnings(job.record) == []


def test_failures_and_waiting_are_told(tmp_path: Path, listener: Listener) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    jobs = Jobs(FakeHost(tmp_path), ended_by(fail))
    job = jobs.submit(job_named("cat", webhook_url=listener.url))
    finished(jobs, job)
    until(lambda: listener.told, "being told")
    assert (listener.told[0][1]["state"], listener.told[0][1]["file"]) == ("failed", None)
    record = Record.create(tmp_path / "record", {}, {"name": "cat"})
    webhook.watch(record, "1", job_named("cat", webhook_url=listener.url))
    for state in ("preparing", "running", "waiting"):
        record.status(state)
    until(lambda: len(listener.told) == 2, "being told again")
    assert [told["state"] for _, told in listener.told] == ["failed", "waiting"]
    jobs.close(PATIENCE)


def test_redirects_are_not_followed(tmp_path: Path, listener: Listener) -> None:
    listener.status = 302
    record = Record.create(tmp_path / "record", {}, {"name": "cat"})
    webhook.watch(record, "1", job_named("cat", webhook_url=listener.url))
    record.status("done", "Done.")
    until(lambda: warnings(record), "a warning")
    assert [path for path, _ in listener.told] == ["/secret"]
    assert warnings(record) == ["The webhook at 127.0.0.1 could not be told of it: it answered with 302."]


def test_an_address_that_does_not_answer_holds_nobody_up(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "PATIENCE", 0.05)
    listener.answers.clear()
    jobs = Jobs(FakeHost(tmp_path), ended_by(lambda: None))
    job = jobs.submit(job_named("cat", webhook_url=listener.url))
    finished(jobs, job)
    assert job.state == "done"
    until(lambda: warnings(job.record), "a warning")
    assert "timed out" in warnings(job.record)[0]
    assert "secret" not in warnings(job.record)[0]
    jobs.close(PATIENCE)


def test_nobody_there(tmp_path: Path, listener: Listener) -> None:
    url = listener.url
    listener.shutdown()
    listener.server_close()
    record = Record.create(tmp_path / "record", {}, {"name": "cat"})
    webhook.watch(record, "1", job_named("cat", webhook_url=url))
    record.status("done", "Done.")
    until(lambda: warnings(record), "a warning")
    assert record.state == "done"
