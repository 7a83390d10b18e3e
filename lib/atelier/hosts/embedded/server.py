"""Serves the embedded host's page: FastAPI, the page mounted at its root, scripts and styles of this checkout."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import uvicorn
from fastapi import FastAPI

from atelier.hosts.embedded.host import EmbeddedHost
from atelier.hosts.embedded.page import Tab, build_page
from atelier.hosts.embedded.page_routes import register

ROOT = Path(__file__).resolve().parents[4]
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
        input_shadow="none",
        block_shadow="none",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
    )


def serve(
    host: EmbeddedHost,
    tabs: Sequence[Tab] = (),
    address: str = "127.0.0.1",
    port: int = 7860,
    on_app: Callable[[FastAPI], None] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Loads the default checkpoint if none is loaded and serves until interrupted.

    `on_ready` is called with the page's address once it answers. Raises `OSError` when the port is taken.
    """
    host.load_default()
    app = make_app(host, tabs, on_app)
    server = PageServer(uvicorn.Config(app, host=address, port=port, log_level="warning"))
    server.on_ready = on_ready or (lambda url: print(f"Atelier is ready: {url}", flush=True))
    server.run()


class PageServer(uvicorn.Server):
    """A uvicorn server that says when it answers."""

    on_ready: Callable[[str], None]

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            address = self.config.host if self.config.host not in ("0.0.0.0", "::") else "127.0.0.1"
            port = self.servers[0].sockets[0].getsockname()[1]
            self.on_ready(f"http://{address}:{port}")
