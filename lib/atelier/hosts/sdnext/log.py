"""Keeps the panel's frequent requests out of SD.Next's log, which has a line for every request."""

from __future__ import annotations

LIVE = "/atelier/v1/jobs"
"""The route that the panel asks every second during a run."""


def keep_out_of_log(path: str = LIVE) -> None:
    """Answers below `path` get no line, as SD.Next does with its own live questions: they would hide all else."""
    try:
        from modules.api import validate

        left_out = validate.log_exclude_prefix
    except (ImportError, AttributeError):  # another release of SD.Next: its log has the lines then
        return
    if path not in left_out:
        left_out.append(path)
