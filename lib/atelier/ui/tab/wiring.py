"""Connects the events of the tab's components with its actions, and the replies with the components."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from atelier.hosts.contract import Host
from atelier.ui.fields import SIMPLE
from atelier.ui.finder import told_html
from atelier.ui.gradio_compat import USER, dropped_files, edited, listen
from atelier.ui.server.form import form_from
from atelier.ui.server.request import Request
from atelier.ui.tab.actions import Actions, Reply
from atelier.ui.tab.exchange import read_in, write_out
from atelier.ui.tab.kind_note import KIND, kind_html
from atelier.ui.tab.layout import Layout
from atelier.ui.tab.messages import error_html
from atelier.ui.tab.presets_in_tab import FROZEN

Data = dict[Any, Any]
"""Old or new contents of controls, by component. Inputs are a set, so that their order does not matter."""


def connect(layout: Layout, actions: Actions, host: Host, paths: bool) -> None:
    """Connects the components of the tab with its actions."""
    controls = layout.controls
    states = [layout.filled, layout.checked, layout.imported]
    inputs = {*controls.values(), layout.files, layout.from_name, *states}
    outputs = [layout.found, layout.message, layout.filled, layout.checked, layout.finder.told, *controls.values()]

    def request_of(data: Data) -> Request:
        return Request(
            values={key: data[control] for key, control in controls.items()},
            files=dropped_files(data[layout.files]),
            caption_from_name=bool(data[layout.from_name]),
            paths=paths,
            imported=data[layout.imported],
            checked=data[layout.checked],
            user=data[USER],
        )

    def answer(reply: Reply, data: Data) -> Data:
        held = {key: reply.changes.get(key, data[control]) for key, control in controls.items()}
        given: Data = {controls[key]: value for key, value in reply.changes.items()}
        given[layout.filled] = reply.filled
        given[layout.finder.told] = told_html(held, reply.filled)
        if reply.checked is not None:
            given[layout.checked] = reply.checked
        if reply.found is not None:
            given[layout.found] = reply.found
        if reply.message is not None:
            given[layout.message] = reply.message
        return given

    def answers(replies: Iterator[Reply], data: Data) -> Iterator[Data]:
        for reply in replies:
            data = {**data, **{controls[key]: value for key, value in reply.changes.items()}}
            yield answer(reply, data)

    def kind_of(data: Data, reply: Reply) -> Data:
        held = {key: reply.changes.get(key, data[controls[key]]) for key in KIND if key in controls}
        return {layout.kind_note: kind_html(held, host.name)}

    def on_change(data: Data) -> Iterator[Data]:
        yield from answers(actions.refreshing(request_of(data), data[layout.filled]), data)

    def on_train(data: Data) -> Data:
        return answer(actions.train(request_of(data), data[layout.filled]), data)

    def on_reset(data: Data) -> Data:
        if data[layout.finder.key]:
            return on_reset_one(data)
        reply = actions.back_to_preset(request_of(data))
        return {**answer(reply, data), **kind_of(data, reply), layout.imported: {}}

    def on_reset_one(data: Data) -> Data:
        key = str(data[layout.finder.key])
        if key not in controls:
            return {layout.finder.key: ""}
        reply = actions.reset_one(request_of(data), data[layout.filled], key)
        return {**answer(reply, data), **kind_of(data, reply), layout.finder.key: ""}

    def on_read(data: Data) -> Data:
        files = dropped_files(data[layout.read_file])
        if not files:
            return {layout.report: ""}
        if not paths:
            return {layout.report: error_html("On a page that is open to the network, files cannot be read.")}
        found = read_in(files[0].path)
        if not found.changes:
            return {layout.report: found.report}
        data = {**data, **{controls[key]: value for key, value in found.changes.items()}, layout.imported: found.held}
        reply = actions.refresh(request_of(data), {FROZEN: True})
        reply.changes = {**found.changes, **reply.changes}
        note = kind_of(data, reply)
        return {**answer(reply, data), **note, layout.imported: found.held, layout.report: found.report}

    def on_write(data: Data) -> Data:
        written = write_out(request_of(data), host)
        return {layout.report: written.message, layout.written: written.files}

    def on_describe(data: Data) -> Iterator[Data]:
        request = request_of(data)
        yield from answers(actions.describe(request, data[layout.captioner], data[layout.filled]), data)

    def on_fill(data: Data) -> Data:
        content = read_json_text(data[layout.form])
        form = form_from(content)
        if form is None:
            return {layout.form: ""}
        again = str(form.values.get("output_name") or "").strip() if content.get("again") else ""
        request = request_of({**data, layout.files: None, layout.from_name: form.caption_from_name})
        request = replace(request, values={**request.values, **form.values}, imported=form.imported)
        reply = actions.fill(request, again)
        return {
            **answer(reply, data),
            **kind_of(data, reply),
            layout.form: "",
            layout.files: None,
            layout.from_name: form.caption_from_name,
            layout.imported: form.imported,
        }

    of_kind = [controls[key] for key in KIND if key in controls]

    def on_kind(data: Data) -> Data:
        return kind_of(data, Reply())

    events: list[Callable[..., Any]] = [layout.files.change, *edited(layout.from_name)]
    for key, control in controls.items():
        events.extend(edited(control, at_once=key in SIMPLE))
    layout.gathered.listen(events, on_change, inputs, outputs)
    for control in of_kind:
        for event in edited(control):
            listen(event, on_kind, {*of_kind}, [layout.kind_note], latest=True)
    only, pressed = layout.own_page.only, {*inputs, layout.own_page.field}
    listen(layout.train.click, only(on_train, layout.message), pressed, outputs, busy=True)
    if layout.describe is not None:
        listen(layout.describe.click, only(on_describe, layout.message), {*pressed, layout.captioner}, outputs)
    whole = [*outputs, layout.kind_note, layout.imported]
    listen(layout.reset.click, on_reset, {*inputs, layout.finder.key}, [*whole, layout.finder.key])
    filled = [*whole, layout.files, layout.from_name, layout.form]
    listen(layout.fill.click, only(on_fill, layout.message), {*pressed, layout.form}, filled)
    read = [*whole, layout.report]
    listen(layout.read_file.change, only(on_read, layout.report), {*pressed, layout.read_file}, read)
    listen(layout.write.click, only(on_write, layout.report), pressed, [layout.report, layout.written], busy=True)


def read_json_text(text: Any) -> dict[str, Any]:
    """The JSON object that a text holds; an empty one for anything else."""
    try:
        found = json.loads(str(text or ""))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
