"""The story of a run in plain sentences: one for each event that a person would want to look up later.

Sentences are made when they are read, so that records of earlier versions have them, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]


def told(event: Event) -> str:
    """The sentence of an event; "" for one that tells a person nothing."""
    kind = event.get("kind")
    if kind == "status":
        return _status(event)
    if kind == "saved":
        return f"Saved {plain_name(event)}."
    if kind == "sample" and event.get("index") == 0:
        step = _step(event)
        return f"Drew the samples of step {step}." if step else "Drew the samples before training."
    text = event.get("text")
    return text if isinstance(text, str) else ""


def shown(event: Event) -> dict[str, Any]:
    """An event for the page: with its sentence, if it has one."""
    text = told(event)
    return {**event, **({"text": text} if text else {})}


def with_pictures(events: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The events without samples whose pictures are no longer in `folder`: they were removed to free the disk."""
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError:
        there = set()
    return [event for event in events if event["kind"] != "sample" or event.get("file") in there]


def save_label(event: Event) -> str:
    """What a saved file is, beside its name: "step 25", "epoch 4" or "finished"."""
    if event.get("save") == "final":
        return "finished"
    if event.get("save") == "epoch":
        return f"epoch {event.get('epoch')}"
    return f"step {_step(event)}"


def plain_name(event: Event) -> str:
    """The name of a saved file without kohya's zeros: my-cat-step00000025 is "my-cat, step 25"."""
    name, label = str(event.get("name") or ""), save_label(event)
    ending = {"step": f"-step{_step(event):08d}", "epoch": f"-{_number(event.get('epoch')):06d}"}.get(label.split()[0])
    stem, found, rest = name.rpartition(ending) if ending else ("", "", "")
    return f"{stem}{rest}, {label}" if found else name


def _status(event: Event) -> str:
    """Without the state before (`was`), as in records of 0.1.0, a state is told by its message or its name."""
    state, message, was = str(event.get("state")), str(event.get("message") or ""), event.get("was")
    step = _step(event)
    if state == "running":
        if was == "paused":
            return f"Resumed at step {step}." if step else "Resumed."
        if was == "waiting":
            again = f"The model is loaded again. Training goes on at step {step}."
            return again if step else "The model is loaded again. Training goes on."
        return "" if step else "Training began."  # a run that is resumed has a message that says from where
    if state == "preparing":  # told once, whatever is prepared
        return "" if was in ("preparing", "waiting", "paused") else "Getting ready."
    if message:
        return message
    return "Waiting in the queue." if state == "queued" else f"{state.capitalize()}."


def _step(event: Event) -> int:
    return _number(event.get("step"))


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
