"""A WebUI that builds its page anew is told of in the record of the run that goes on meanwhile."""

from __future__ import annotations

from pathlib import Path

from atelier.jobs.queue import Jobs
from atelier.ui.extension import Extension
from tests.support.jobs_fakes import PATIENCE, FakeHost, Steered, finished, job_named


def test_a_reload_is_told_to_the_run_that_outlives_it(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    jobs = Jobs(host, steered := Steered())
    job = jobs.submit(job_named("cat"))
    steered.until("running")

    def told() -> list[str]:
        return [event["text"] for event in job.record.view()["events"] if event["kind"] == "message"]

    Extension(host, jobs).tab()
    assert told() == []
    Extension(host, jobs).tab()
    assert told() == ["The WebUI was reloaded. The run went on."]
    steered.finish()
    finished(jobs, job)
    Extension(host, jobs).tab()
    assert len(told()) == 1
    jobs.close(PATIENCE)
