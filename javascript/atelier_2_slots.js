"use strict";
// The slots of the panel: each is made anew only when what it shows has changed, and then keeps the keyboard's focus.
(function (atelier) {
    const { element } = atelier;

    // The element that has the focus, also inside Gradio's shadow root.
    const focused = () => {
        let found = document.activeElement;
        while (found && found.shadowRoot && found.shadowRoot.activeElement) found = found.shadowRoot.activeElement;
        return found;
    };

    // Elements that can have the focus are told apart by data-focus, "ACTION ID". One that is gone hands it to its
    // counterpart of the same run, or to its run in the list; else the slot itself takes it, where Enter does nothing.
    const COUNTERPARTS = { pause: "resume", resume: "pause" };
    const focusAgain = (slot, name) => {
        const [action, id] = name.split(" ");
        const there = [...slot.querySelectorAll("[data-focus]")];
        const names = [name, `${COUNTERPARTS[action]} ${id}`, `run ${id}`];
        const found = names.map((one) => there.find((made) => made.dataset.focus === one)).find(Boolean);
        if (!found) slot.tabIndex = -1;
        (found || slot).focus({ preventScroll: true });
    };

    // Makes the slot `name` of `parent` anew when `key` is not what it was, so that nothing is replaced under the
    // pointer. A key of null empties it. `change` brings what was made up to date, also when it is new: figures that
    // change with every look need no new elements.
    atelier.place = (parent, name, key, make, change) => {
        let slot = parent.querySelector(`:scope > [data-slot="${name}"]`);
        if (!slot) {
            slot = element("div", {});
            slot.dataset.slot = name;
            parent.append(slot);
        }
        const text = JSON.stringify(key);
        if (slot.dataset.key === text) {
            if (change && slot.firstChild) change(slot.firstChild);
            return;
        }
        slot.dataset.key = text;
        const made = key === null ? null : make();
        const active = focused();
        const lost = active && active !== slot && slot.contains(active) ? active.dataset.focus || "" : null;
        slot.replaceChildren(...(made ? [made] : []));
        if (made && change) change(made);
        if (lost !== null) focusAgain(slot, lost);
    };

    // Sets the text of an element, if it is another one.
    atelier.setText = (made, text) => { if (made.textContent !== text) made.textContent = text; };

    // Has screen readers say a sentence. Its element stays on the page: one that comes with its text is not read.
    atelier.announce = (panel, text) => {
        let told = panel.querySelector(":scope > .atelier-announced");
        if (!told) {
            told = element("p", { className: "atelier-announced", role: "status" });
            panel.append(told);
        }
        if (told.textContent !== text) told.textContent = text;
    };
})(window.atelier);
