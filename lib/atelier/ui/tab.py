"""The training tab: four fields and Train, what was found, the live panel, and everything else under Advanced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from atelier.config.schema import option
from atelier.hosts.contract import Host
from atelier.jobs.queue import Jobs
from atelier.ui.actions import Actions, Reply
from atelier.ui.advanced import advanced_controls
from atelier.ui.fields import element_id, make_control
from atelier.ui.found_html import nothing_yet
from atelier.ui.gradio_compat import component, dropped_files, edited, listen
from atelier.ui.request import Request

LOOKED_AT = ("Pictures", "Captions")
"""Groups whose settings change what is found in the pictures."""


def build(jobs: Jobs, host: Host, paths: bool = True) -> dict[str, Any]:
    """Builds the tab inside the running `gr.Blocks`. Gives its controls by the keys of their settings.

    Without `paths` nobody may name a folder or a file of this machine, only drop pictures: for a page that is open to
    the network without a login.
    """
    with gr.Column(elem_id="atelier_tab"):
        with gr.Row(elem_id="atelier_top"):
            with gr.Column(scale=5, min_width=320):
                simple, files = _four_fields()
                train = gr.Button("Train", variant="primary", elem_id="atelier_train")
                message = gr.HTML("", elem_id="atelier_message")
            with gr.Column(scale=6, min_width=320):
                found = gr.HTML(nothing_yet(""), elem_id="atelier_found")
        gr.HTML('<div id="atelier_panel"></div>', elem_id="atelier_panel_area")
        with gr.Accordion("Advanced", open=False, elem_id="atelier_advanced"):
            with gr.Row():
                gr.Markdown("Good values are filled in by themselves and follow your pictures, until you change one.")
                reset = component(
                    gr.Button, value="Back to good values", elem_id="atelier_reset", size="sm", scale=0, min_width=180
                )
            advanced, from_name = advanced_controls()
        filled = gr.State({})
    controls = {**simple, **advanced}
    actions = Actions(jobs, host)
    _connect(actions, controls, files, from_name, filled, train, reset, found, message, paths)
    return controls


def _four_fields() -> tuple[dict[str, Any], Any]:
    folder = make_control(
        option("train_data_dir"),
        label="1. Pictures",
        info="The folder with 5 to 50 pictures of what you want to teach, or of folders named like 10_cat.",
        placeholder="/pictures/my-cat",
    )
    files = component(
        gr.File,
        label="… or drop them here, with .txt captions if you have any",
        file_count="multiple",
        elem_id="atelier_files",
        height=140,
    )
    with gr.Row():
        trigger = make_control(
            option("trigger"),
            label="2. Trigger word",
            info="You will write it into prompts. Take one that means nothing yet.",
            placeholder="zwx cat",
            min_width=200,
        )
        subject = component(
            gr.Radio,
            choices=list(option("subject").choices),
            value=option("subject").default,
            label="3. What it is",
            info="Chooses good values for the rest.",
            elem_id=element_id("subject"),
            min_width=200,
        )
    name = make_control(
        option("output_name"),
        label="4. Output name",
        info="Prompts will use it as <lora:NAME:1>.",
        placeholder="my-cat",
    )
    return {"train_data_dir": folder, "trigger": trigger, "subject": subject, "output_name": name}, files


def _connect(
    actions: Actions,
    controls: dict[str, Any],
    files: Any,
    from_name: Any,
    filled: Any,
    train: Any,
    reset: Any,
    found: Any,
    message: Any,
    paths: bool,
) -> None:
    """Events. Inputs go in as a set, so that handlers get them by component and none can be mixed up."""
    inputs = {*controls.values(), files, from_name, filled}
    outputs = [found, message, filled, *controls.values()]

    def request_of(data: dict[Any, Any]) -> Request:
        values = {key: data[control] for key, control in controls.items()}
        return Request(values, dropped_files(data[files]), bool(data[from_name]), paths)

    def answer(reply: Reply) -> dict[Any, Any]:
        given: dict[Any, Any] = {controls[key]: value for key, value in reply.changes.items()}
        given[filled] = reply.filled
        if reply.found is not None:
            given[found] = reply.found
        if reply.message is not None:
            given[message] = reply.message
        return given

    def on_change(data: dict[Any, Any]) -> dict[Any, Any]:
        return answer(actions.refresh(request_of(data), data[filled]))

    def on_train(data: dict[Any, Any]) -> dict[Any, Any]:
        return answer(actions.train(request_of(data), data[filled]))

    def on_reset(data: dict[Any, Any]) -> dict[Any, Any]:
        return answer(actions.back_to_preset(request_of(data)))

    looked_at = [control for key, control in controls.items() if option(key).group in (*LOOKED_AT, "Basics")]
    events: list[Callable[..., Any]] = [files.change]
    for control in [*looked_at, from_name]:
        events.extend(edited(control))
    for event in events:
        listen(event, on_change, inputs, outputs, latest=True)
    listen(train.click, on_train, inputs, outputs, busy=True)
    listen(reset.click, on_reset, inputs, outputs)
