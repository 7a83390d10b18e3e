"""The differences between versions of Gradio are found by feature, also behind a WebUI's wrapper."""

from __future__ import annotations

from typing import Any

from atelier.ui.gradio_compat import listen


class Event:
    """An event as Gradio 4 has it."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def change(
        self, fn: Any, inputs: Any, outputs: Any, queue: bool, js: str | None = None, api_name: Any = None,
        trigger_mode: str | None = None, show_progress: str = "full",
    ) -> None:  # fmt: skip
        self.given = {"js": js, "api_name": api_name, "trigger_mode": trigger_mode, "show_progress": show_progress}


class Wrapper:
    """What Forge puts around an event: takes anything, and hands it on."""

    def __init__(self, event: Any) -> None:
        self.replaced_event = event

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.replaced_event(*args, **kwargs)


def test_a_wrapped_event_is_connected_as_the_one_it_holds() -> None:
    plain, wrapped = Event(), Event()
    listen(plain.change, print, js="() => 1", latest=True)
    listen(Wrapper(wrapped.change), print, js="() => 1", latest=True)
    expected = {"js": "() => 1", "api_name": False, "trigger_mode": "always_last", "show_progress": "hidden"}
    assert plain.given == expected
    assert wrapped.given == expected


def test_an_event_that_knows_less_is_given_less() -> None:
    given: dict[str, Any] = {}

    def old(fn: Any, inputs: Any, outputs: Any, queue: bool, _js: str | None = None) -> None:
        given.update(_js=_js)

    listen(old, print, js="() => 1", latest=True)
    assert given == {"_js": "() => 1"}
