"""What the page's script is told of the settings: where they are, what is recommended, and what was changed."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from atelier.config.settings.schema import option
from atelier.jobs.queue import Jobs
from atelier.ui.fields import shown_options, to_control
from atelier.ui.finder import changed_by_hand, for_page, told_html
from atelier.ui.server.request import Request
from atelier.ui.tab.actions import Actions
from atelier.ui.tab.presets_in_tab import FROZEN
from tests.support.jobs_fakes import FakeHost


def defaults(**changes: Any) -> dict[str, Any]:
    return {**{found.key: to_control(found, found.default) for found in shown_options()}, **changes}


def told(held: dict[str, Any], filled: dict[str, Any]) -> Any:
    found = re.search(r'data-told="([^"]*)"', told_html(held, filled))
    assert found is not None
    return json.loads(html.unescape(found.group(1)))


@pytest.mark.parametrize(
    ("changes", "filled", "changed"),
    [
        ({}, {}, {}),
        ({"learning_rate": "1e-4"}, {"learning_rate": "0.0001"}, {}),
        ({"learning_rate": "2e-4"}, {"learning_rate": "0.0001"}, {"learning_rate": "2e-4"}),
        ({"network_dim": "none"}, {"network_dim": "16"}, {"network_dim": "none"}),
        ({"network_dim": ""}, {"network_dim": "16"}, {"network_dim": ""}),
        ({"flip_aug": True}, {"flip_aug": True}, {}),
        ({"flip_aug": False}, {"flip_aug": True}, {"flip_aug": False}),
        ({"trigger": "zwx"}, {}, {}),
    ],
)
def test_changed_is_what_means_something_else_than_recommended(
    changes: dict[str, Any], filled: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert changed_by_hand(defaults(**changes), filled) == changed


def test_texts_of_a_person_stay_texts() -> None:
    attack = '"><img src=x onerror=alert(1)>'
    assert "<img" not in told_html(defaults(caption_prefix=attack), {})
    assert told(defaults(caption_prefix=attack), {})["changed"] == {"caption_prefix": attack}
    assert told(defaults(), {FROZEN: True})["recommended"] == {}


def test_where_a_setting_is() -> None:
    assert for_page(option("network_dim"))["section"] == "atelier_group_network"
    assert for_page(option("trigger"))["section"] == for_page(option("no_half_vae"))["section"] == ""
    assert for_page(option("text_encoder_lr"))["content"] == to_control(option("text_encoder_lr"), None or [])


def test_one_setting_is_reset_and_the_others_stay(tmp_path: Path) -> None:
    host = FakeHost(tmp_path / "host")
    jobs = Jobs(host, lambda *_: None)
    actions = Actions(jobs, host)
    first = actions.refresh(Request(values=defaults()), {})
    held = {**defaults(), **first.changes, "network_dim": "4", "network_alpha": "2", "max_grad_norm": "3"}
    reply = actions.reset_one(Request(values=held), first.filled, "network_dim")
    assert reply.changes["network_dim"] == first.filled["network_dim"]
    after = {**held, **reply.changes}
    assert after["max_grad_norm"] == "3"
    assert set(changed_by_hand(after, reply.filled)) >= {"max_grad_norm"}
    assert "network_dim" not in changed_by_hand(after, reply.filled)
    frozen = actions.reset_one(Request(values=held), {FROZEN: True}, "network_dim")
    assert frozen.changes == {"network_dim": to_control(option("network_dim"), option("network_dim").default)}
    jobs.close(timeout=30)
