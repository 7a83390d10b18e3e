"""Tells an address of the person's choice when a run ends or waits: a POST with JSON, off by default.

It is told in a thread of its own, so that an address which does not answer holds nobody up. What goes wrong is a
message in the run's record. Redirects are not followed, since the address that was entered is the one that is meant.
"""

from __future__ import annotations

import json
import logging
import threading
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from atelier.config.job import JobConfig
from atelier.jobs.files import plain
from atelier.jobs.record import ENDED, Record

log = logging.getLogger(__name__)

TOLD = frozenset((*ENDED, "waiting"))
"""States that are told."""
PATIENCE = 10.0
"""Seconds that the address has to answer."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for a failure."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def watch(record: Record, run_id: str, config: JobConfig) -> None:
    """Tells the webhook of `config`, if it has one, of the states of its run from now on."""
    url = config.settings.webhook_url
    record.listener = None
    if not url:
        return

    def on_status(state: str, message: str) -> None:
        if state in TOLD:
            told = {**about(record, run_id, config), "state": state, "message": message}
            threading.Thread(target=_tell, args=(url, told, record), name="atelier-webhook", daemon=True).start()

    record.listener = on_status


def about(record: Record, run_id: str, config: JobConfig) -> dict[str, Any]:
    """What the JSON says of a run, beside its state. `file` is the name of the newest saved file, or None."""
    saved = record.newest_save() or {}
    return {
        "run": run_id,
        "name": config.name,
        "file": saved.get("name"),
        "trains": "checkpoint" if config.settings.train_whole_model else "lora",
        "step": record.step,
        "total": record.total,
    }


def _tell(url: str, told: dict[str, Any], record: Record) -> None:
    try:
        body = json.dumps(plain(told)).encode()
        request = urllib.request.Request(
            url, body, {"Content-Type": "application/json", "User-Agent": "Atelier"}, method="POST"
        )
        with _OPENER.open(request, timeout=PATIENCE):
            pass
    except Exception as error:  # noqa: BLE001 - whatever the network does, the run goes on
        reason = f"it answered with {error.code}" if isinstance(error, urllib.error.HTTPError) else _reason(error)
        log.info("a webhook could not be told: %s", reason)
        # Without the rest of the address, which may hold a secret.
        record.message(f"The webhook at {urlsplit(url).hostname} could not be told of it: {reason}.", "warning")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__)
