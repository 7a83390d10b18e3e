"""Builds the training tab: four fields and Train, beside them the pictures and the live panel, and below all the rest.

Everything that a first run needs is in sight without scrolling on a page of 1366 by 660 pixels.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from atelier.config.settings.schema import option
from atelier.hosts.contract import Host
from atelier.hosts.powers import captioners
from atelier.jobs.queue import Jobs
from atelier.ui.fields import element_id, make_control
from atelier.ui.finder import SEARCH, Finder
from atelier.ui.gradio_compat import Gathered, component
from atelier.ui.own_page import OwnPage
from atelier.ui.server.model_line import model_line
from atelier.ui.tab.actions import Actions
from atelier.ui.tab.advanced import advanced_controls
from atelier.ui.tab.found_html import nothing_yet
from atelier.ui.tab.layout import Layout
from atelier.ui.tab.tools_section import tools_section
from atelier.ui.tab.wiring import connect


def build(jobs: Jobs, host: Host, paths: bool = True) -> dict[str, Any]:
    """Builds the tab inside the running `gr.Blocks`. Returns its controls by the keys of their settings.

    Without `paths` people can only drop pictures, not name folders or files of this machine. This is for a page that
    is open to the network without a login.
    """
    layout = Layout()
    with gr.Column(elem_id="atelier_tab", elem_classes=[f"atelier-in-{host.name}"]):
        with gr.Row(elem_id="atelier_top"):
            with gr.Column(scale=5, min_width=320, elem_id="atelier_form_side"):
                _four_fields(layout, captioners(host))
                layout.train = gr.Button("Train", variant="primary", elem_id="atelier_train")
                line = f'<p class="atelier-quiet" role="status">{html.escape(model_line(host))}</p>'
                layout.model_line = gr.HTML(line, elem_id="atelier_model_line")
                layout.message = gr.HTML("", elem_id="atelier_message")
            with gr.Column(scale=7, min_width=320, elem_id="atelier_run_side"):
                layout.found = gr.HTML(nothing_yet(), elem_id="atelier_found")
                gr.HTML('<div id="atelier_panel"></div>', elem_id="atelier_panel_area")
        with gr.Accordion("Advanced", open=False, elem_id="atelier_advanced"):
            _advanced(layout)
        with gr.Column(elem_classes="atelier-hidden"):
            _hidden(layout, jobs.page_key)
        tools_section(host, layout.own_page)
        layout.filled = gr.State({})
        layout.checked = gr.State({})
        layout.imported = gr.State({})
    connect(layout, Actions(jobs, host), host, paths)
    return layout.controls


def _hidden(layout: Layout, page_key: str) -> None:
    """What only scripts use."""
    layout.own_page = OwnPage(page_key)
    layout.gathered = Gathered()
    layout.form = component(gr.Textbox, value="", label="A form as JSON", elem_id="atelier_form")
    layout.fill = component(gr.Button, value="Fill the form", elem_id="atelier_fill")
    layout.finder = Finder.make()


def _four_fields(layout: Layout, captioners: Sequence[str]) -> None:
    with gr.Row(elem_id="atelier_pictures"):
        layout.controls["train_data_dir"] = make_control(
            option("train_data_dir"),
            label="1. Pictures",
            info="A folder with 5 to 50 pictures. Subfolders named like 10_cat work too.",
            placeholder="/pictures/my-cat",
            scale=1,
            min_width=220,
        )
        layout.files = component(
            gr.File,
            label="… or drop them here",
            file_count="multiple",
            elem_id="atelier_files",
            height=110,
            scale=1,
            min_width=180,
        )
    if captioners:
        with gr.Accordion("Captions by the WebUI", open=False, elem_id="atelier_describing"), gr.Row():
            layout.captioner = component(
                gr.Dropdown,
                choices=list(captioners),
                value=captioners[0],
                label="Describe with",
                info="BLIP writes sentences, DeepBooru writes tags. The WebUI downloads each at its first use.",
                elem_id="atelier_captioner",
                scale=3,
                min_width=200,
            )
            layout.describe = component(
                gr.Button,
                value="Describe pictures without a caption",
                elem_id="atelier_describe",
                size="sm",
                scale=2,
                min_width=160,
            )
    with gr.Row(elem_id="atelier_words"):
        layout.controls["trigger"] = make_control(
            option("trigger"),
            label="2. Trigger word",
            info="A made-up word for your prompts, such as zwx.",
            placeholder="zwx cat",
            min_width=200,
        )
        layout.controls["output_name"] = make_control(
            option("output_name"),
            label="3. Output name",
            info="In a prompt you then write <lora:NAME:1>.",
            placeholder="my-cat",
            min_width=200,
        )
    layout.controls["subject"] = component(
        gr.Radio,
        choices=list(option("subject").choices),
        value=option("subject").default,
        label="4. What it is",
        info="Sets recommended values for the rest.",
        elem_id=element_id("subject"),
        min_width=200,
    )


def _advanced(layout: Layout) -> None:
    with gr.Row():
        gr.Markdown(
            "Recommended values follow your pictures. "
            "A field that you edit keeps your value; the others go on following."
        )
        layout.reset = component(
            gr.Button, value="Reset to recommended", elem_id="atelier_reset", size="sm", scale=0, min_width=180
        )
    gr.HTML(SEARCH, elem_id="atelier_finder")
    controls, layout.from_name, layout.kind_note = advanced_controls()
    layout.controls.update(controls)
    with gr.Accordion("Files of kohya's programs", open=False, elem_id="atelier_exchange"):
        with gr.Row():
            layout.read_file = component(
                gr.File,
                label="Read settings from a TOML, a GUI preset (JSON) or a LoRA file",
                file_count="single",
                elem_id="atelier_read_file",
                height=140,
            )
            layout.written = component(
                gr.File,
                label="Files for sd-scripts",
                file_count="multiple",
                interactive=False,
                elem_id="atelier_written",
                height=140,
            )
        layout.write = component(gr.Button, value="Write these settings for sd-scripts", elem_id="atelier_write")
        layout.report = gr.HTML("", elem_id="atelier_report")
