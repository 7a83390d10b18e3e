"""The Advanced section of the tab: all settings but the four fields, in groups."""

from __future__ import annotations

from typing import Any

import gradio as gr

from atelier.config.settings.option import GROUPS, Option
from atelier.ui.fields import SIMPLE, element_id, make_control, section_id, shown_options
from atelier.ui.gradio_compat import component

TITLES = {"Basics": "Model"}
MIN_WIDTH = 220
"""Pixels of a control at least. The style sheet lays all controls of the section out in one grid."""


def advanced_controls() -> tuple[dict[str, Any], Any, Any]:
    """Builds the groups inside the running block.

    Returns the controls by key, the check box for captions from file names (it belongs to the dataset), and the note
    on the kind of adapter, which says which WebUIs can use it.
    """
    controls: dict[str, Any] = {}
    from_name: Any = None
    kind_note: Any = None
    by_group: dict[str, list[Option]] = {group: [] for group in GROUPS}
    for option in shown_options():
        if option.key not in SIMPLE:
            by_group[option.group].append(option)
    for group, members in by_group.items():
        if not members:
            continue
        title = TITLES.get(group, group)
        with gr.Accordion(title, open=False, elem_id=section_id(members[0])):
            if group == "Network":
                kind_note = gr.HTML("", elem_id="atelier_kind_note")
            with gr.Row(elem_classes="atelier-grid"):
                for option in members:
                    controls[option.key] = make_control(option, min_width=MIN_WIDTH)
                if group == "Captions":
                    from_name = component(
                        gr.Checkbox,
                        value=False,
                        label="Captions from file names",
                        info="If a picture has no caption file, its file name is used as the caption.",
                        elem_id=element_id("caption_from_name"),
                        min_width=MIN_WIDTH,
                    )
    return controls, from_name, kind_note
