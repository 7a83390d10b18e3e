"""The handlers of a page's components, as Gradio 3 and as Gradio 4 and later keep them."""

from __future__ import annotations

import functools
import inspect
from types import SimpleNamespace
from typing import Any

import gradio as gr


def handler_of(blocks: gr.Blocks, component: Any, event: str, onto: Any = None) -> Any:
    """What runs on a component's event: has `fn`, `inputs`, `outputs` and `inputs_as_dict`. Nobody is logged in.

    Where a text box tells only when it is left, which is so without `trigger_mode`, that stands for its change.
    An event that only tells another component is followed to that one's handler. Of several handlers, the one that
    writes into `onto`.
    """
    found = _handlers(blocks, component._id, event)
    if not found and event == "change" and isinstance(component, gr.Textbox):
        found = _handlers(blocks, component._id, "blur")
    (handler,) = [known for one in found if onto in (known := _followed(blocks, one)).outputs or onto is None]
    takes = list(inspect.signature(handler.fn).parameters)
    fn = functools.partial(handler.fn, asker=None) if "asker" in takes else handler.fn
    return SimpleNamespace(fn=fn, inputs=handler.inputs, outputs=handler.outputs, inputs_as_dict=handler.inputs_as_dict)


def _followed(blocks: gr.Blocks, handler: Any) -> Any:
    if handler.fn is None and handler.outputs:
        return next(known for known in _handlers(blocks, handler.outputs[0]._id, "change") if known.fn is not None)
    return handler


def _handlers(blocks: gr.Blocks, number: int, event: str) -> list[Any]:
    if isinstance(blocks.fns, list):
        told = zip(blocks.fns, blocks.dependencies)
        return [known for known, told in told if number in told["targets"] and told["trigger"] == event]
    return [known for known in blocks.fns.values() if (number, event) in map(tuple, known.targets)]
