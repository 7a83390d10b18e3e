"""The routes behind the embedded host's page: its script and style, and the LoRA list."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, Response

from atelier.config.errors import AtelierError
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.hosts.embedded.lora_list import find_lora

WEB = Path(__file__).parent / "web"
NO_STORE = {"Cache-Control": "no-store"}


def register(app: FastAPI, host: EmbeddedHost, root: Path) -> None:
    """Adds the routes. `root` is the checkout, whose `javascript/*.js` and `style.css` go onto the page."""

    @app.get("/atelier-host/page.js")
    def page_script() -> Response:
        files = [WEB / "host.js", WEB / "lora_cards.js", *sorted((root / "javascript").glob("*.js"))]
        return Response(_joined(files, ";\n"), media_type="text/javascript", headers=NO_STORE)

    @app.get("/atelier-host/page.css")
    def page_style() -> Response:
        return Response(_joined([WEB / "host.css", root / "style.css"], "\n"), media_type="text/css", headers=NO_STORE)

    @app.get("/atelier-host/loras")
    def loras() -> dict[str, Any]:
        cards = []
        for entry in host.loras():
            picture = f"atelier-host/lora-preview?name={quote(entry.name)}&v={entry.changed}" if entry.preview else None
            cards.append(
                {
                    "name": entry.name,
                    "preview": picture,
                    "activation_text": entry.activation_text,
                    "weight": entry.weight,
                }
            )
        return {"loras": cards}

    @app.get("/atelier-host/lora-preview")
    def lora_preview(name: str) -> FileResponse:
        try:
            entry = find_lora(host.folders.lora, name)
        except AtelierError as error:
            raise HTTPException(404, str(error)) from error
        if entry.preview is None:
            raise HTTPException(404, f"The LoRA {entry.name} has no preview.")
        return FileResponse(entry.preview, headers={"Cache-Control": "no-cache"})


def _joined(files: list[Path], separator: str) -> str:
    return separator.join(file.read_text(encoding="utf-8") for file in files if file.is_file())
