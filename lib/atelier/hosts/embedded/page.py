"""The embedded host's page: checkpoint, txt2img with the LoRA list, and the tabs it is given.

Element ids are those of the other WebUIs, so that scripts and tests find the same things here.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from atelier.config.errors import AtelierError
from atelier.hosts.contract import SampleRequest
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.models.sampling.sample import SAMPLERS

Tab = tuple[str, str, Callable[[], Any]]
"""Title, name (the element is `tab_NAME`), and the function that builds the tab inside the running `gr.Blocks`."""


def build_page(host: EmbeddedHost, tabs: Sequence[Tab]) -> gr.Blocks:
    """The page as a `gr.Blocks`. `tabs` come after txt2img, in their order."""
    with gr.Blocks(title="Atelier", analytics_enabled=False, fill_width=True) as page:
        with gr.Row(elem_id="atelier_host_top"):
            checkpoint = gr.Dropdown(
                choices=[entry.title for entry in host.checkpoints()],
                value=_loaded_title(host),
                label="Checkpoint",
                info="The model you draw with and train on. Put more into the folder models/.",
                elem_id="setting_sd_model_checkpoint",
                scale=2,
                min_width=240,
            )
            refresh = gr.Button(
                "Refresh list", elem_id="refresh_sd_model_checkpoint", size="sm", scale=0, min_width=110
            )
            message = gr.HTML(_model_line(host), elem_id="atelier_host_model", min_width=240)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("txt2img", elem_id="tab_txt2img", id="txt2img"):
                sizes = _txt2img(host)
            for title, name, build in tabs:
                with gr.Tab(title, elem_id=f"tab_{name}", id=name):
                    build()
        top = [checkpoint, message, *sizes]
        checkpoint.input(
            lambda title: _switch(host, title), checkpoint, top, api_visibility="private", show_progress_on=message
        )
        with gr.Column(elem_classes="atelier-hidden"):
            wanted = gr.Textbox(label="Checkpoint to load")
            change = gr.Button("Load", elem_id="change_checkpoint")
        change.click(
            lambda name: _switch(host, _title_of(host, name)), wanted, top, api_visibility="private",
            show_progress_on=message, js="() => atelierWantedCheckpoint",
        )  # fmt: skip
        for event in (refresh.click, page.load):
            event(lambda: _refresh(host), None, [checkpoint, message], api_visibility="private", queue=False)
    return page


# --- checkpoint ---


def _loaded_title(host: EmbeddedHost) -> str | None:
    return host.current.title if host.current else None


def _title_of(host: EmbeddedHost, name: str) -> str:
    """The checkpoint's title in the list for a file's name with or without its ending; what is unknown stays."""
    found = (entry.title for entry in host.checkpoints() if name in (entry.title, entry.path.stem))
    return next(found, name)


def _model_line(host: EmbeddedHost, error: str = "") -> str:
    if error:
        return f'<p class="atelier-error" role="alert">{html.escape(error)}</p>'
    model = host.loaded_model()
    if model is None or host.current is None:
        return f"<p>No model is loaded. Put one into {html.escape(str(host.folders.checkpoints))}.</p>"
    family = host.current.parts.family.title
    return f"<p>{html.escape(family)}, {model.dtype} on {html.escape(model.device)}</p>"


def _refresh(host: EmbeddedHost) -> tuple[Any, Any]:
    titles = [entry.title for entry in host.checkpoints()]
    return gr.update(choices=titles, value=_loaded_title(host)), _model_line(host)


def _switch(host: EmbeddedHost, title: str) -> list[Any]:
    try:
        host.load(title, again=False)  # Gradio tells of one choice twice
    except AtelierError as error:
        return [gr.update(value=_loaded_title(host)), _model_line(host, str(error)), gr.skip(), gr.skip(), gr.skip()]
    side = host.native_size()
    return [gr.update(value=_loaded_title(host)), _model_line(host), side, side, host.usual_cfg()]


# --- txt2img ---


def _txt2img(host: EmbeddedHost) -> list[gr.Slider]:
    side = host.native_size()
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            prompt = gr.Textbox(
                label="Prompt",
                info="What the picture shows. <lora:NAME:1> uses a LoRA; click one below to add it.",
                lines=3,
                elem_id="txt2img_prompt",
            )
            negative = gr.Textbox(
                label="Negative prompt", info="What it should not show.", lines=2, elem_id="txt2img_neg_prompt"
            )
            with gr.Row():
                generate = gr.Button("Generate", variant="primary", elem_id="txt2img_generate", scale=3)
                interrupt = gr.Button("Stop", elem_id="txt2img_interrupt", scale=1, min_width=80)
            with gr.Row():
                sampler = gr.Dropdown(
                    list(SAMPLERS),
                    value=next(iter(SAMPLERS)),
                    label="Sampler",
                    elem_id="txt2img_sampling",
                    min_width=210,
                )
                steps = gr.Slider(1, 150, value=20, step=1, label="Steps", elem_id="txt2img_steps", min_width=210)
            with gr.Row():
                width = gr.Slider(64, 2048, value=side, step=8, label="Width", elem_id="txt2img_width", min_width=210)
                height = gr.Slider(
                    64, 2048, value=side, step=8, label="Height", elem_id="txt2img_height", min_width=210
                )
            with gr.Row():
                scale = gr.Slider(
                    1, 30, value=host.usual_cfg(), step=0.5, label="CFG", elem_id="txt2img_cfg_scale", min_width=210
                )
                batch = gr.Slider(
                    1, 16, value=1, step=1, label="Pictures", elem_id="txt2img_batch_count", min_width=210
                )
                seed = gr.Number(label="Seed (-1: new)", value=-1, precision=0, elem_id="txt2img_seed", min_width=120)
        with gr.Column(scale=6, min_width=320):
            gallery = gr.Gallery(
                label="Pictures",
                elem_id="txt2img_gallery",
                columns=4,
                height=460,
                format="png",
                object_fit="contain",
                buttons=["download", "fullscreen"],
            )
            info = gr.HTML("", elem_id="txt2img_html_info")
    with gr.Row(elem_id="txt2img_lora_head"):
        gr.HTML("<h3>LoRAs</h3>", scale=4)
        gr.Button("Refresh list", elem_id="txt2img_lora_extra_refresh", size="sm", scale=0, min_width=110)
    gr.HTML('<div id="txt2img_lora_cards" class="atelier-cards" role="list"></div>', elem_id="txt2img_lora_list")

    inputs = [prompt, negative, steps, scale, seed, width, height, batch, sampler]

    def draw(*values: Any, progress: gr.Progress = gr.Progress()) -> Iterator[tuple[Any, Any]]:  # noqa: B008
        yield from _draw(host, values, progress)

    generate.click(
        draw, inputs, [gallery, info], api_visibility="private", show_progress="full", show_progress_on=gallery
    )
    interrupt.click(lambda: host.generator.stop(), None, None, api_visibility="private", queue=False)
    return [width, height, scale]


def _draw(host: EmbeddedHost, values: Sequence[Any], progress: gr.Progress) -> Iterator[tuple[Any, Any]]:
    """Draws the batch; gives the gallery and the line below it after every picture."""
    prompt, negative, steps, scale, seed, width, height, batch, sampler = values
    count = int(batch)
    shown: list[tuple[str, str]] = []
    lines: list[str] = []

    def report(number: int, step: int, total: int) -> None:
        words = "Waiting for its turn" if step == 0 else f"Picture {number} of {count}, step {step} of {total}"
        progress(((number - 1) * total + step, count * total), desc=words)

    try:
        request = SampleRequest(
            prompt=prompt or "",
            negative_prompt=negative or "",
            width=int(width),
            height=int(height),
            steps=int(steps),
            cfg_scale=float(scale),
            seed=-1 if seed is None else int(seed),
            sampler=sampler,
        )
        for drawn in host.generator.draw_batch(request, count, report):
            shown.append((str(drawn.path), f"Seed {drawn.seed}"))
            lines.append(drawn.parameters)
            yield shown, _info(lines)
    except AtelierError as error:
        yield shown or gr.skip(), f'<p class="atelier-error" role="alert">{html.escape(str(error))}</p>'
        return
    if not shown:
        yield gr.skip(), "<p>Stopped before the first picture was finished.</p>"


def _info(lines: Sequence[str]) -> str:
    return "".join(f'<p class="atelier-parameters">{html.escape(line)}</p>' for line in lines[-1:])
