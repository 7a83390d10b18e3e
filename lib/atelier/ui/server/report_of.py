"""The report for a bug report, from inside the WebUI: what only the running host knows is in it, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from atelier.hosts.contract import Host
from atelier.report.machine import launch_arguments
from atelier.report.report import report
from atelier.ui.start_line import title_of


def report_of(host: Host) -> str:
    """The text, without anything private. Nothing of the host is changed, and no model is loaded."""
    return report([host.folders.runs], title_of(host), launch_arguments(sys.argv[1:]), _host_lines(host))


def _host_lines(host: Host) -> Iterator[str]:
    """The loaded model without its name, and why it cannot be trained if it cannot."""
    try:
        model = host.loaded_model()
    except Exception as error:  # noqa: BLE001 - a report is made where something is broken
        yield f"model: not known ({type(error).__name__}: {error})"
        return
    if model is None:
        yield "model: none is loaded"
        return
    kind = model.family or "a kind that is not known"
    yield f"model: {kind}, {model.prediction_type}, {model.dtype} on {model.device}"
    if model.refusal:
        yield f"refused: {model.refusal.replace(model.title, '<model>')}"
