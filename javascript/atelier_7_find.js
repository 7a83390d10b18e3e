"use strict";
// Advanced for people who know: a search over all settings, a list of those that were changed, and kohya's key and the
// recommended value at each field. What there is to find is the server's list of settings.
(function (atelier) {
    const { ask, element, find, place, say } = atelier;
    const BUILT = 3000;  // milliseconds until something that Gradio builds when it is opened is given up
    const LEAST = 2;  // letters of a search

    // -- the settings ----------------------------------------------------------------------------------------------

    let known = null, asking = null;
    const load = () => {
        asking = asking || ask("/settings").then(({ settings }) => {
            known = new Map(settings.map((one) => [one.key, one]));
        }).catch((error) => {
            console.warn("the settings:", error.message);
            asking = null;
        });
        return asking;
    };
    const told = () => {
        const area = find("#atelier_told [data-told]");
        return area ? JSON.parse(area.dataset.told) : { recommended: {}, changed: {} };
    };
    const fieldOf = (key) => find(`#atelier_${key}`);
    const boxOf = (field) => field.querySelector("input, textarea");
    const good = (setting, { recommended }) => (
        setting.key in recommended ? recommended[setting.key] : setting.content);
    const shown = (content) => {
        if (typeof content === "boolean") return say(content ? "good on" : "good off");
        return content === "" ? say("good empty") : String(content).split("\n")[0];
    };

    // -- sections --------------------------------------------------------------------------------------------------

    const header = (section) => section.querySelector(":scope > .label-wrap, :scope > button.label-wrap");
    const turn = (id, open) => {
        const section = find(`#${id}`), above = section && header(section);
        if (!above || above.classList.contains("open") === open) return false;
        above.click();
        return true;
    };
    const isOpen = (id) => {
        const section = find(`#${id}`), above = section && header(section);
        return Boolean(above) && above.classList.contains("open");
    };
    const goTo = async (setting) => {
        if (setting.section) turn(setting.section, true);
        const field = await atelier.until(() => fieldOf(setting.key), BUILT);
        if (!field) return;
        field.scrollIntoView({ block: "center" });
        const box = field.querySelector("input:checked") || boxOf(field);
        if (box) box.focus({ preventScroll: true });
    };

    // -- the search ------------------------------------------------------------------------------------------------

    // Also in the words that a WebUI has translated, where the field is on the page.
    const textOf = (setting) => {
        const field = setting.shown ? fieldOf(setting.key) : null;
        const { key, label, help } = setting;
        return [key, key.replaceAll("_", " "), label, help, field ? field.textContent : ""].join(" ").toLowerCase();
    };
    const matching = (text) => {
        const words = text.toLowerCase().split(/\s+/).filter(Boolean);
        return [...known.values()].filter((one) => {
            const all = textOf(one);
            return words.every((word) => all.includes(word));
        });
    };

    // What does not match is hidden by a style sheet: so it stays hidden when Gradio builds or changes it.
    const showOnly = (hits) => {
        const tab = find("#atelier_tab");
        let sheet = tab.querySelector(":scope > style.atelier-search-style");
        if (!sheet) {
            sheet = element("style", { className: "atelier-search-style" });
            tab.append(sheet);
        }
        if (!hits) {
            sheet.textContent = "";
            return;
        }
        const keys = new Set(hits.map((one) => one.key));
        const sections = new Set(hits.map((one) => one.section));
        const inGrid = [...known.values()].filter((one) => one.section);
        const hidden = [
            ...inGrid.filter((one) => !keys.has(one.key)).map((one) => `#atelier_${one.key}`),
            ...new Set(inGrid.map((one) => one.section).filter((section) => !sections.has(section))
                .map((section) => `#${section}`)),
            "#atelier_caption_from_name", "#atelier_kind_note", "#atelier_exchange",
        ];
        sheet.textContent = `#atelier_advanced :is(${hidden.join(", ")}) { display: none !important; }`;
    };

    let hits = [], opened = new Set(), searched = "";
    const search = async (text) => {
        searched = text;
        await load();
        if (!known || searched !== text) return;
        if (text.trim().length < LEAST) {
            hits = [];
            showOnly(null);
            for (const section of opened) turn(section, false);
            opened = new Set();
            report("");
            return;
        }
        const all = matching(text);
        hits = all.filter((one) => one.section);
        showOnly(hits);
        for (const section of new Set(hits.map((one) => one.section))) if (turn(section, true)) opened.add(section);
        report(sentences(all));
    };
    const sentences = (all) => {
        const names = (some) => some.map((one) => `${one.label} (${one.key})`).join(", ");
        const above = all.filter((one) => one.shown && !one.section), files = all.filter((one) => !one.shown);
        return [
            hits.length === 1 ? say("found one") : hits.length ? say("found", { count: hits.length }) : "",
            above.length ? say("found above", { names: names(above) }) : "",
            files.length ? say("found in files", { names: names(files) }) : "",
            all.length ? "" : say("found none"),
        ].filter(Boolean).join(". ");
    };
    const report = (text) => {
        const line = find("#atelier_search_told");
        if (line && line.textContent !== text) line.textContent = text;
    };
    const isSearch = (event) => event.composedPath()[0].id === "atelier_search";
    document.addEventListener("input", (event) => {
        if (isSearch(event)) search(event.composedPath()[0].value).then(redraw);
    }, true);
    document.addEventListener("keydown", (event) => {
        if (event.key === "Escape") hideTip();
        if (!isSearch(event)) return;
        const box = event.composedPath()[0];
        if (event.key === "Enter") {
            event.preventDefault();
            if (hits.length) goTo(hits[0]);
        } else if (event.key === "Escape" && box.value) {
            event.preventDefault();
            box.value = "";
            search("").then(redraw);
        }
    }, true);

    // -- what was changed ------------------------------------------------------------------------------------------

    // The server resets it, since not every control of every Gradio can be set by a script.
    const reset = (setting) => {
        const box = find("#atelier_reset_key textarea, #atelier_reset_key input");
        atelier.type(box, setting.key);
        find("#atelier_reset").click();
    };
    const changedRow = (setting, content, state) => element("li", {},
        element("button", {
            className: "atelier-link", type: "button", text: setting.label, title: setting.key,
            "data-focus": `go ${setting.key}`, onclick: () => goTo(setting),
        }),
        element("span", { className: "atelier-value", text: shown(content) }),
        element("span", {
            className: "atelier-quiet", text: say("good value", { value: shown(good(setting, state)) }),
        }),
        element("button", {
            className: "atelier-reset", type: "button", text: say("reset one"), "data-focus": `reset ${setting.key}`,
            "aria-label": say("reset one help", setting), title: say("reset one help", setting),
            onclick: () => reset(setting),
        }));
    const drawChanged = (state) => {
        const area = find("#atelier_changed_area");
        if (!area) return;
        const changed = Object.entries(state.changed).filter(([key]) => known.has(key));
        place(area, "changed", changed.length ? [changed, state.recommended] : null, () => element("section", {},
            element("h4", { text: say("changed", { count: changed.length }) }),
            element("ul", {}, ...changed.map(([key, content]) => changedRow(known.get(key), content, state)))));
    };

    // -- kohya's key and the recommended value ---------------------------------------------------------------------

    const drawPlaceholders = (state) => {
        for (const setting of known.values()) {
            if (setting.kind === "bool" || setting.choices.length) continue;
            if (!setting.section || !isOpen(setting.section)) continue;
            const field = fieldOf(setting.key), box = field && boxOf(field);
            const value = good(setting, state);
            const words = value === "" ? "" : say("good value", { value: shown(value) });
            if (box && box.placeholder !== words) box.placeholder = words;
        }
    };

    // One small note for all fields: at the one that the pointer is over, else at the one that has the focus.
    let noted = null, focused = null;
    const fieldAt = (event) => known && event.composedPath().find((one) => (
        one.id && one.id.startsWith("atelier_") && known.has(one.id.slice("atelier_".length))));
    const tip = () => {
        const tab = find("#atelier_tab");
        let made = tab.querySelector(":scope > #atelier_key_tip");
        if (!made) {
            made = element("div", { id: "atelier_key_tip", role: "tooltip", hidden: true });
            tab.append(made);
        }
        return made;
    };
    const hideTip = () => {
        if (noted) tip().hidden = true;
        noted = null;
    };
    const showTip = (field) => {
        if (noted === field) return;
        const setting = known.get(field.id.slice("atelier_".length)), made = tip();
        const value = setting.section ? say("good value", { value: shown(good(setting, told())) }) : "";
        made.replaceChildren(element("code", { text: setting.key }), element("span", { text: value }));
        made.hidden = false;
        noted = field;
        const at = field.getBoundingClientRect(), tab = made.parentElement.getBoundingClientRect();
        made.style.left = `${Math.max(0, Math.min(at.left - tab.left, tab.width - made.offsetWidth))}px`;
        made.style.top = `${at.top - tab.top - made.offsetHeight - 2}px`;
    };
    document.addEventListener("pointerover", (event) => {
        if (event.composedPath().some((one) => one.id === "atelier_key_tip")) return;
        const field = fieldAt(event) || focused;
        if (field) showTip(field);
        else hideTip();
    }, true);
    document.addEventListener("focusin", (event) => {
        focused = fieldAt(event) || null;
        if (!focused) {
            hideTip();
            return;
        }
        showTip(focused);
        const box = event.composedPath()[0], described = box.getAttribute("aria-describedby") || "";
        if (!described.includes(tip().id)) box.setAttribute("aria-describedby", `${described} ${tip().id}`.trim());
    }, true);

    // -- time ------------------------------------------------------------------------------------------------------

    let watched = null;
    const watch = () => {
        const area = find("#atelier_told");
        if (!area || watched === area) return;
        watched = area;
        new MutationObserver(redraw).observe(area, { childList: true, subtree: true });
    };
    const draw = async () => {
        watch();
        if (document.hidden || !find("#atelier_tab") || !isOpen("atelier_advanced")) return;
        await load();
        if (!known || !find("#atelier_search")) return;
        const state = told();
        drawChanged(state);
        drawPlaceholders(state);
    };
    const redraw = () => { draw().catch((error) => console.error("Advanced:", error)); };
    document.addEventListener("atelier-looked", redraw);
    document.addEventListener("click", (event) => {
        const hit = event.composedPath().find((one) => one.matches && one.matches("#atelier_advanced .label-wrap"));
        if (hit) atelier.until(() => find("#atelier_search"), BUILT).then(redraw);
    }, true);
})(window.atelier);
