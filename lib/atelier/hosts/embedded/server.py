"""Serves the embedded host's page: FastAPI, the page mounted at its root, scripts and styles of this checkout."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from atelier.config.errors import AtelierError
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.hosts.embedded.page import Tab, build_page
from atelier.hosts.embedded.page_routes import register

ROOT = Path(__file__).resolve().parents[4]
LOCAL = ("127.0.0.1", "localhost")
"""Addresses that only this machine reaches: a page of another site that pretends to be one of them is refused."""
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
SYSTEM_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def make_app(host: EmbeddedHost, tabs: Sequence[Tab], on_app: Callable[[FastAPI], None] | None = None) -> FastAPI:
    """The whole program as an ASGI app. `on_app` may add routes; the page is mounted behind them."""
    app = FastAPI(title="Atelier", docs_url=None, redoc_url=None, openapi_url=None)
    register(app, host, ROOT)
    if on_app is not None:
        on_app(app)
    page = build_page(host, tabs)
    page.queue(default_concurrency_limit=4)
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        theme=page_theme(),
        head='<link rel="stylesheet" href="atelier-host/page.css"><script src="atelier-host/page.js"></script>',
        allowed_paths=[str(host.folders.outputs), str(host.folders.runs)],
        footer_links=[],
        ssr_mode=False,
        show_error=True,
        enable_monitoring=False,
    )


def page_theme() -> gr.themes.Base:
    """Gradio's soft look with the fonts of the system: nothing is fetched from elsewhere."""
    theme = gr.themes.Soft(
        primary_hue="orange",
        secondary_hue="orange",
        neutral_hue="stone",
        radius_size="sm",
        spacing_size="sm",
        font=SYSTEM_FONTS,
        font_mono=SYSTEM_MONO,
    )
    return theme.set(
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_label_background_fill="*background_fill_secondary",
        block_label_background_fill_dark="*background_fill_secondary",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        block_border_width="1px",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_border_color="*border_color_primary",
        input_border_color_dark="*border_color_primary",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
        checkbox_border_width="1px",
        checkbox_border_width_dark="1px",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        input_shadow="none",
        block_shadow="none",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
    )


def serve(
    host: EmbeddedHost,
    tabs: Sequence[Tab] = (),
    address: str = "127.0.0.1",
    port: int = 7860,
    on_app: Callable[[FastAPI], None] | None = None,
    on_ready: Callable[[str], None] | None = None,
    on_end: Callable[[], None] | None = None,
) -> None:
    """Loads the first checkpoint if none is loaded, and serves until interrupted.

    `on_ready` is called with the page's address once it answers; without it the address is printed. `on_end` is called
    when the server was told to end, by a signal too, and may take its time. Raises `OSError` when the port is taken. A
    checkpoint that cannot be loaded is told, and the page opens without a model.
    """
    with listening_socket(address, port) as listener:
        try:
            host.load_default()
        except AtelierError as error:
            print(error, flush=True)
        app = make_app(host, tabs, on_app)
        if address in LOCAL:
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
        server = PageServer(uvicorn.Config(app, log_level="warning"))
        shown = "127.0.0.1" if address in ("0.0.0.0", "::") else address
        url = f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"
        server.when_ready = lambda: on_ready(url) if on_ready else print(f"Atelier is ready: {url}", flush=True)
        if on_end is not None:
            server.when_ending = on_end
        server.run(sockets=[listener])


def listening_socket(address: str, port: int) -> socket.socket:
    """A socket bound to the address, taken before anything is loaded. Raises `OSError` when it is in use."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


class PageServer(uvicorn.Server):
    """A uvicorn server that says when it answers, and when it is about to end."""

    when_ready: Callable[[], None]
    when_ending: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.when_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn raises the signal again when it is done: what comes after `run` is not reached then.
        await asyncio.to_thread(self.when_ending)
        await super().shutdown(sockets)
