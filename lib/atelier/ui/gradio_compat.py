"""Hides the differences between Gradio 3.41, 3.43, 4.40 and 6. They are detected by feature, and only here."""

from __future__ import annotations

import inspect
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

log = logging.getLogger(__name__)


def component(kind: type, **arguments: Any) -> Any:
    """Makes a component, leaving out arguments that this Gradio does not have.

    Only arguments for looks may be left out this way: sizes, scales and the like.
    """
    known = _parameters(kind)
    return kind(**{name: value for name, value in arguments.items() if name in known})


def update(**changes: Any) -> Any:
    """The value that an event handler returns to change a component. Without `changes` the component stays as it is."""
    return gr.update(**changes)


def listen(
    event: Callable[..., Any],
    handler: Callable[..., Any] | None,
    inputs: Any = None,
    outputs: Any = None,
    *,
    js: str | None = None,
    queue: bool = True,
    latest: bool = False,
    busy: bool = False,
) -> Any:
    """Connects `handler` to a component's event, hidden from Gradio's API page.

    `js` runs in the browser first. `latest`: of many events in a row, the last is always handled, and those in between
    may be skipped. `busy`: the outputs show that they are being computed. With a set as `inputs`, the handler gets the
    values by component, and under `USER` the name of the person who is logged in.
    """
    if isinstance(inputs, set) and handler is not None:
        handler = _with_user(handler)
    known = _parameters(event)
    arguments: dict[str, Any] = {"fn": handler, "inputs": inputs, "outputs": outputs, "queue": queue}
    if js is not None:
        arguments["js" if "js" in known else "_js"] = js
    if "api_visibility" in known:
        arguments["api_visibility"] = "private"
    elif "api_name" in known:
        arguments["api_name"] = False
    if latest and "trigger_mode" in known:
        arguments["trigger_mode"] = "always_last"
    if "show_progress" in known:
        arguments["show_progress"] = "minimal" if busy else "hidden"
    return event(**arguments)


USER = "user"
"""Key of the name of the person who is logged in to the WebUI, in the data of a handler; "" for nobody."""


def _with_user(handler: Callable[[dict[Any, Any]], Any]) -> Callable[..., Any]:
    """Gradio hands over who asks by the annotation, which must not be optional in Gradio 3."""

    def named(data: dict[Any, Any], asker: gr.Request | None) -> dict[Any, Any]:
        return {**data, USER: getattr(asker, "username", None) or ""}

    def once(data: dict[Any, Any], asker: gr.Request) -> Any:
        return handler(named(data, asker))

    def in_parts(data: dict[Any, Any], asker: gr.Request) -> Iterator[Any]:
        yield from handler(named(data, asker))

    return in_parts if inspect.isgeneratorfunction(handler) else once


NOW = "() => String(performance.now())"
LATER = "(changed, handled) => (changed === handled ? changed : String(performance.now()))"


class Gathered:
    """Connects many events with one handler, so that Gradio has to know the handler's inputs and outputs only once.

    Before the page is shown, Gradio 3 and 4 look up each input and output of each event in a list of all components.
    With one event for each of a hundred settings, SD.Next's page took a minute. Make it inside the running block. Two
    hidden text boxes hold the time of the newest event and of the last one that was handled.
    """

    def __init__(self) -> None:
        self.changed = component(gr.Textbox, value="", elem_id="atelier_changed", elem_classes="atelier-hidden")
        self.handled = component(gr.Textbox, value="", elem_id="atelier_handled", elem_classes="atelier-hidden")

    def listen(
        self,
        events: Sequence[Callable[..., Any]],
        handler: Callable[[dict[Any, Any]], Iterator[dict[Any, Any]]],
        inputs: set[Any],
        outputs: list[Any],
    ) -> None:
        """Connects a handler that takes and yields values by component. The newest event is always handled."""

        def handle(data: dict[Any, Any]) -> Iterator[dict[Any, Any]]:
            for answer in handler(data):
                yield {**answer, self.handled: data[self.changed]}

        for event in events:
            listen(event, None, None, [self.changed], js=NOW, queue=False)
        change = self.changed.change
        asked = listen(change, handle, {*inputs, self.changed}, [*outputs, self.handled], latest=True)
        if "trigger_mode" not in _parameters(change):
            # Gradio 3 drops an event while its handler runs, so it is asked for again. Not after an error, which would
            # repeat for ever.
            both = [self.changed, self.handled]
            listen(asked.success, None, both, [self.changed], js=LATER, queue=False)


def edited(control: Any, at_once: bool = False) -> list[Callable[..., Any]]:
    """The events of a control that the person changed.

    A text box has one when it loses the focus. With `at_once` it also has one whenever its text changes, even by a
    handler or a script, unless this Gradio cannot skip events that come too fast.
    """
    if not isinstance(control, gr.Textbox):
        return [control.input]
    if at_once and "trigger_mode" in _parameters(control.change):
        return [control.change]
    return [control.blur, control.submit]


@dataclass(frozen=True)
class DroppedFile:
    """A file dropped on the page: where Gradio put it, and its original name."""

    path: Path
    name: str


def dropped_files(value: Any) -> list[DroppedFile]:
    """The files in a `gr.File`: temporary-file objects in Gradio 3, strings with attributes later, or nothing.

    Gradio 3 accepts any path of the server that a request names as an upload, and keeps it as `orig_name`. Files that
    were never uploaded are ignored.
    """
    if value is None:
        return []
    items: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    files = []
    for item in items:
        path = Path(str(getattr(item, "name", item)))
        named = getattr(item, "orig_name", None)
        if named and not _was_uploaded(str(named)):
            log.warning("a file that was named but not uploaded is ignored")
            continue
        name = named or path.name
        files.append(DroppedFile(path, Path(str(name).replace("\\", "/")).name))
    return files


def _was_uploaded(path: str) -> bool:
    """True for a path in the folder where Gradio 3 puts uploads."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio").resolve()
    try:
        return folder in Path(path).resolve().parents
    except (OSError, ValueError):  # not a valid path
        return False


@lru_cache(maxsize=256)
def _parameters_of(function: Any) -> frozenset[str]:
    parameters = inspect.signature(function).parameters
    names = frozenset(parameters)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        # Forge wraps each event in an object that takes any arguments and passes them on to the event inside.
        for held in vars(function).values() if hasattr(function, "__dict__") else ():
            if inspect.isroutine(held):
                names |= frozenset(inspect.signature(held).parameters)
    return names


def _parameters(function: Any) -> frozenset[str]:
    try:
        return _parameters_of(function)
    except TypeError:  # a callable object that cannot be hashed
        return frozenset(inspect.signature(function).parameters)
