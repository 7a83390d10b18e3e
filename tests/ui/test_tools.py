"""The Tools section: what can be chosen, what the buttons make of it, and that nothing is overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch

from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import read_lora, save_lora
from atelier.adapters.network import build
from atelier.jobs.queue import Jobs
from atelier.models.checkpoints.load import load_checkpoint
from atelier.models.checkpoints.save import save_checkpoint
from atelier.ui.tab.tab import build as build_tab
from atelier.ui.tab.tools import extract, lists, merge
from tests.support.gradio_pages import handler_of
from tests.support.jobs_fakes import FakeHost
from tests.support.models_tiny import tiny_parts


class ToolsHost(FakeHost):
    """Notes what is published."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.published: list[Path] = []

    def publish_lora(self, path: Path) -> None:
        self.published.append(path)

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        assert not load
        self.published.append(path)


@pytest.fixture
def host(tmp_path: Path) -> ToolsHost:
    """Has a base, another family's base in a folder below, and a LoRA for the first."""
    host = ToolsHost(tmp_path / "host")
    save_checkpoint(host.folders.checkpoints / "base.safetensors", tiny_parts("sd1", 0), dtype=torch.float32)
    save_checkpoint(host.folders.checkpoints / "others" / "two.safetensors", tiny_parts("sd2", 0), dtype=torch.float32)
    network = build(tiny_parts("sd1", 0), NetworkConfig(dim=4, alpha=4.0), seed=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.05)
    save_lora(host.folders.lora / "cat.safetensors", network.state_tensors(), {})
    return host


def test_what_can_be_chosen(host: ToolsHost, tmp_path: Path) -> None:
    save_checkpoint(host.folders.checkpoints / "folder", tiny_parts("sd1", 0), format="diffusers")
    (host.folders.checkpoints / "others" / "link").symlink_to(host.folders.checkpoints / "folder")
    found = lists(host)
    assert list(found.loras) == ["cat.safetensors"]
    assert sorted(found.checkpoints) == ["base.safetensors", "folder", "others/link", "others/two.safetensors"]
    assert lists(FakeHost(tmp_path / "empty")).checkpoints == {}


def test_merged_and_extracted_again(host: ToolsHost) -> None:
    said = merge(host, "cat.safetensors", "base.safetensors", "0.5", "")
    merged = host.folders.checkpoints / "base-cat.safetensors"
    assert "base-cat.safetensors: base.safetensors with 0.5 times cat.safetensors" in said and "atelier-ok" in said
    base = dict(load_checkpoint(host.folders.checkpoints / "base.safetensors").parts.denoiser.named_parameters())
    unet = dict(load_checkpoint(merged).parts.denoiser.named_parameters())
    assert any((unet[name] - base[name]).abs().max() > 1e-2 for name in base)
    said = extract(host, "base-cat.safetensors", "base.safetensors", "4", "again")
    assert "again.safetensors" in said and "atelier-ok" in said
    made = host.folders.lora / "again.safetensors"
    assert {key.split(".")[0] for key in read_lora(made).tensors} == {
        key.split(".")[0] for key in read_lora(host.folders.lora / "cat.safetensors").tensors
    }
    assert host.published == [merged, made]
    merge(host, "cat.safetensors", "base.safetensors", "1", "")
    assert host.published[-1].name == "base-cat-2.safetensors"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda host: merge(host, "", "base.safetensors", "1", "x"), "Choose the LoRA"),
        (lambda host: merge(host, "cat.safetensors", "gone", "1", "x"), "gone no longer exists"),
        (lambda host: merge(host, "cat.safetensors", "base.safetensors", "much", "x"), "The weight is"),
        (lambda host: merge(host, "cat.safetensors", "base.safetensors", "1", "../x"), "cannot contain a folder"),
        (lambda host: extract(host, "base.safetensors", "base.safetensors", "4", "x"), "equal in every layer"),
        (lambda host: extract(host, "base.safetensors", "others/two.safetensors", "4", "x"), "different families"),
        (lambda host: extract(host, "base.safetensors", "base.safetensors", "0", "x"), "The rank is"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_leaves_no_file(call: Any, words: str, host: ToolsHost) -> None:
    before = sorted(path for path in host.folders.lora.parent.rglob("*"))
    said = call(host)
    assert words in said and "atelier-error" in said and "has the details" not in said
    assert sorted(path for path in host.folders.lora.parent.rglob("*")) == before and host.published == []


@pytest.fixture
def jobs(host: ToolsHost) -> Iterator[Jobs]:
    made = Jobs(host, lambda *_: None)
    yield made
    made.close(timeout=30)


def test_the_buttons_say_what_they_did_and_the_lists_have_it(host: ToolsHost, jobs: Jobs) -> None:
    with gr.Blocks() as page:
        build_tab(jobs, host)
    by_id = {block.elem_id: block for block in page.blocks.values() if getattr(block, "elem_id", None)}
    assert by_id["atelier_tools"].open is False
    assert 'class="atelier-report" href="atelier/v1/report"' in by_id["atelier_bug_report"].value
    held = {block: getattr(block, "value", None) for block in page.blocks.values()}
    held[by_id["atelier_merge_lora"]] = "cat.safetensors"
    held[by_id["atelier_merge_base"]] = "base.safetensors"
    answer = handler_of(page, by_id["atelier_merge"], "click").fn(held)
    assert "1 times cat.safetensors" in answer[by_id["atelier_tools_report"]]
    assert "base-cat.safetensors" in str(answer[by_id["atelier_extract_tuned"]])
    held[by_id["atelier_extract_tuned"]] = "base-cat.safetensors"
    held[by_id["atelier_extract_base"]] = "base.safetensors"
    held[by_id["atelier_extract_rank"]] = "2"
    answer = handler_of(page, by_id["atelier_extract"], "click").fn(held)
    assert "base-cat-lora.safetensors" in answer[by_id["atelier_tools_report"]]
    assert "base-cat-lora.safetensors" in str(answer[by_id["atelier_merge_lora"]])
    (host.folders.lora / "cat.safetensors").unlink()
    renewed = handler_of(page, by_id["atelier_tools_refresh"], "click").fn()
    assert "'cat.safetensors'" not in str(renewed[by_id["atelier_merge_lora"]])
