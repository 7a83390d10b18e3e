"""The Tools section of the tab: its components and their handlers."""

from __future__ import annotations

from typing import Any

import gradio as gr

from atelier.hosts.contract import Host
from atelier.ui.gradio_compat import component, listen, update
from atelier.ui.own_page import OwnPage
from atelier.ui.tab.tools import extract, lists, merge

SHOW_NEW_FILES = "() => { if (window.atelier) { atelier.refreshLoras(); atelier.refreshCheckpoints(); } }"
"""Runs in the page when a tool has finished, so that the WebUI's own lists show the new file."""
BUG_REPORT = (
    "<p><b>Report a problem.</b> Versions, card and the last errors as text, without names, folders and prompts. "
    "Read it before you post it.</p>"
    '<p><a class="atelier-report" href="atelier/v1/report" target="_blank" rel="noopener">Text for a bug report</a></p>'
)
"""The page's script corrects the address where the WebUI is served under a path of its own."""

Data = dict[Any, Any]


def tools_section(host: Host, own_page: OwnPage) -> None:
    """Builds the section inside the running block and connects it."""
    found = lists(host)
    loras, checkpoints = list(found.loras), list(found.checkpoints)
    with gr.Accordion("Tools", open=False, elem_id="atelier_tools"):
        gr.Markdown("**Merge a LoRA into a checkpoint.** The result is a new checkpoint, in fp16.")
        with gr.Row():
            lora = _choice("LoRA", loras, "atelier_merge_lora")
            merge_base = _choice("Checkpoint", checkpoints, "atelier_merge_base")
            weight = _text("Weight", "1 is the full effect of the LoRA.", "atelier_merge_weight", "1")
            merge_name = _text("Name", "Empty joins the two names.", "atelier_merge_name")
        merge_button = component(gr.Button, value="Merge", elem_id="atelier_merge")
        gr.Markdown("**Extract a LoRA.** It holds the difference between a trained checkpoint and its base.")
        with gr.Row():
            tuned = _choice("Trained checkpoint", checkpoints, "atelier_extract_tuned")
            extract_base = _choice("Base", checkpoints, "atelier_extract_base")
            rank = _text("Rank", "More keeps more of the difference, in a larger file.", "atelier_extract_rank", "32")
            extract_name = _text("Name", "Empty uses the name of the trained checkpoint.", "atelier_extract_name")
        extract_button = component(gr.Button, value="Extract", elem_id="atelier_extract")
        refresh = component(gr.Button, value="Refresh these lists", elem_id="atelier_tools_refresh", size="sm")
        report = gr.HTML("", elem_id="atelier_tools_report")
        gr.HTML(BUG_REPORT, elem_id="atelier_bug_report")
    chosen = [lora, merge_base, tuned, extract_base]

    def renewed() -> Data:
        now = lists(host)
        return {
            lora: update(choices=list(now.loras)),
            **{box: update(choices=list(now.checkpoints)) for box in (merge_base, tuned, extract_base)},
        }

    def on_merge(data: Data) -> Data:
        message = merge(host, *(str(data[box] or "") for box in (lora, merge_base, weight, merge_name)))
        return {report: message, **renewed()}

    def on_extract(data: Data) -> Data:
        message = extract(host, *(str(data[box] or "") for box in (tuned, extract_base, rank, extract_name)))
        return {report: message, **renewed()}

    outputs = [report, *chosen]
    to_merge = {lora, merge_base, weight, merge_name, own_page.field}
    to_extract = {tuned, extract_base, rank, extract_name, own_page.field}
    merged = listen(merge_button.click, own_page.only(on_merge, report), to_merge, outputs, busy=True)
    extracted = listen(extract_button.click, own_page.only(on_extract, report), to_extract, outputs, busy=True)
    for done in (merged, extracted):
        # Not on the report's change event: Gradio 4 fires it whenever the page is redrawn, and the buttons that this
        # script presses redraw it, so there would be no end.
        listen(done.then, None, None, None, js=SHOW_NEW_FILES, queue=False)
    listen(refresh.click, lambda: renewed(), None, chosen)


def _choice(label: str, choices: list[str], element: str) -> Any:
    return component(
        gr.Dropdown, choices=choices, value=None, label=label, elem_id=element, allow_custom_value=False, min_width=180
    )


def _text(label: str, info: str, element: str, value: str = "") -> Any:
    return component(gr.Textbox, value=value, label=label, info=info, elem_id=element, max_lines=1, min_width=140)
