"""The differences between Gradio 3.41, 3.43, 4.40 and 6, found by feature: the one place that knows of them."""

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
    """A component, without the arguments that this Gradio does not have.

    Only arguments that change looks may be left out this way: sizes, scales and the like.
    """
    known = _parameters(kind)
    return kind(**{name: value for name, value in arguments.items() if name in known})


def update(**changes: Any) -> Any:
    """What an event handler returns to change a component; without changes it leaves the component alone."""
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

    `js` runs in the browser before. `latest`: of many events in a row, the last one is handled for sure and those
    in between may be skipped. `busy`: the outputs show that they are being computed.
    """
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


NOW = "() => String(performance.now())"
LATER = "(changed, handled) => (changed === handled ? changed : String(performance.now()))"


class Gathered:
    """Many events with one handler: Gradio's start page is told the inputs and outputs of the handler once.

    Gradio 3 and 4 look each input and output of each event up in a list of all components before the page is shown:
    with one event for each of a hundred settings that took SD.Next's page a minute. Made inside the running block; two
    hidden text boxes hold the moment of the newest event and of the last one that was handled.
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
        """Connects a handler that takes and yields values by component. The newest event is handled for sure."""

        def handle(data: dict[Any, Any]) -> Iterator[dict[Any, Any]]:
            for answer in handler(data):
                yield {**answer, self.handled: data[self.changed]}

        for event in events:
            listen(event, None, None, [self.changed], js=NOW, queue=False)
        change = self.changed.change
        asked = listen(change, handle, {*inputs, self.changed}, [*outputs, self.handled], latest=True)
        if "trigger_mode" not in _parameters(change):
            # Gradio 3 drops an event whose handler runs. An error ends the row: it would come back for ever.
            both = [self.changed, self.handled]
            listen(asked.success, None, both, [self.changed], js=LATER, queue=False)


def edited(control: Any, at_once: bool = False) -> list[Callable[..., Any]]:
    """The events that tell that the person changed a control.

    A text box tells when it is left, or, `at_once`, whenever its text is another one, also by a handler or a script;
    not where Gradio cannot skip events that come too fast.
    """
    if not isinstance(control, gr.Textbox):
        return [control.input]
    if at_once and "trigger_mode" in _parameters(control.change):
        return [control.change]
    return [control.blur, control.submit]


@dataclass(frozen=True)
class DroppedFile:
    """A file dropped on the page: where Gradio put it, and the name it had."""

    path: Path
    name: str


def dropped_files(value: Any) -> list[DroppedFile]:
    """What a `gr.File` holds: temporary-file objects in Gradio 3, strings with attributes later, or nothing.

    Gradio 3 takes any path of the server's that a request names for an upload, and keeps it as `orig_name`: those
    that were never uploaded are passed over.
    """
    if value is None:
        return []
    items: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    files = []
    for item in items:
        path = Path(str(getattr(item, "name", item)))
        named = getattr(item, "orig_name", None)
        if named and not _was_uploaded(str(named)):
            log.warning("a file that was named but not uploaded is passed over")
            continue
        name = named or path.name
        files.append(DroppedFile(path, Path(str(name).replace("\\", "/")).name))
    return files


def _was_uploaded(path: str) -> bool:
    """True for a path in the folder where Gradio 3 puts what is uploaded."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio").resolve()
    try:
        return folder in Path(path).resolve().parents
    except (OSError, ValueError):  # no path at all
        return False


@lru_cache(maxsize=256)
def _parameters_of(function: Any) -> frozenset[str]:
    parameters = inspect.signature(function).parameters
    names = frozenset(parameters)
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        # Forge puts an object that takes anything around each event, and passes it on to the event that it holds.
        for held in vars(function).values() if hasattr(function, "__dict__") else ():
            if inspect.isroutine(held):
                names |= frozenset(inspect.signature(held).parameters)
    return names


def _parameters(function: Any) -> frozenset[str]:
    try:
        return _parameters_of(function)
    except TypeError:  # a callable object that cannot be hashed
        return frozenset(inspect.signature(function).parameters)
