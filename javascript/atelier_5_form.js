"use strict";
// The form's part of the page: what was found folds away while a run is watched, messages go with the state that they
// speak of, errors mark their fields, and the form comes back as it was.
(function (atelier) {
    const { ask, find, heard, say, setText, views } = atelier;
    const form = atelier.form = {};

    // -- what was found, and the run -------------------------------------------------------------------------------

    // A run is watched from the moment that it is started, chosen or seen to go on. Then the summary of the pictures is
    // folded, and the run's button is the one to press next. `opened`: what the person wants, null for nothing yet.
    let watched = false, opened = null;
    form.watch = () => {
        if (watched) return;
        [watched, opened] = [true, null];
        form.fold();
    };

    form.fold = () => {
        const tab = find("#atelier_tab"), found = find("#atelier_found details");
        if (!tab || !found) return;
        const open = opened === null ? !watched : opened;
        tab.classList.toggle("atelier-run-first", watched && !open);
        if (found.open !== open) found.open = open;
    };

    // Other pictures are what the person looks at next, unless a run goes on.
    let pictures = null;
    const foundChanged = (going) => {
        const found = find("#atelier_found details");
        const now = found && found.dataset.pictures;
        if (pictures !== null && now && now !== pictures && !going) [watched, opened] = [false, null];
        if (now !== undefined && now !== null) pictures = now;
        form.fold();
    };

    // -- messages --------------------------------------------------------------------------------------------------

    const message = () => find("#atelier_message [data-of]");
    const hide = (shown) => {
        shown.hidden = true;
        unmark();
    };

    // What a message says of a run holds as long as the run is in one of the states that the message names.
    const checkMessage = (jobs) => {
        const shown = message();
        if (!shown || shown.hidden || shown.dataset.of !== "run") return;
        const job = jobs.find((one) => one.id === shown.dataset.run);
        const known = shown.dataset.known === "true";  // a message can be on the page before its run is in an answer
        if (job ? !shown.dataset.states.split(" ").includes(job.state) : known) hide(shown);
        if (job) shown.dataset.known = "true";
    };

    // Marks the fields that an error names, as KEY@SECTION, and opens the sections that they are in.
    const FIELD_PATIENCE = 2000;  // milliseconds until a field that is not on the page is given up
    let marked = [], shownMessage = null;
    const unmark = () => {
        for (const field of marked) {
            delete field.dataset.atelierWrong;
            for (const box of field.querySelectorAll("input, textarea")) box.removeAttribute("aria-invalid");
        }
        marked = [];
    };
    const header = (section) => section.querySelector(":scope > .label-wrap, :scope > button.label-wrap");
    const isClosed = (section) => {
        const above = header(section);
        return above && !above.classList.contains("open");
    };
    const open = async (section) => {
        for (const selector of ["#atelier_advanced", `#${section}`]) {
            const found = await atelier.until(() => find(selector), FIELD_PATIENCE);
            if (found && isClosed(found)) header(found).click();
        }
    };
    const markErrors = async () => {
        const shown = message();
        const at = shown && !shown.hidden ? shown.dataset.at : null;
        if (at === shownMessage) return;
        shownMessage = at;
        unmark();
        const keys = at && shown.dataset.keys ? shown.dataset.keys.split(" ") : [];
        for (const [key, section] of keys.map((one) => one.split("@"))) {
            const there = () => find(`#atelier_${key}`);
            if (section) await open(section);
            const field = await atelier.until(there, FIELD_PATIENCE);
            if (!field || shown.dataset.at !== shownMessage) continue;
            field.dataset.atelierWrong = "";
            for (const box of field.querySelectorAll("input, textarea")) box.setAttribute("aria-invalid", "true");
            if (!marked.length) {
                const seen = field.getBoundingClientRect();
                if (seen.top < 0 || seen.bottom > innerHeight) field.scrollIntoView({ block: "center" });
            }
            marked.push(field);
        }
    };

    // What the form was told is out of date as soon as somebody changes the form.
    let touched = false;
    const edited = (event) => {
        const path = event.composedPath().map((one) => one.id);
        if (!path.includes("atelier_tab") || path.includes("atelier_form")) return;
        touched = true;
        const shown = message();
        if (shown && !shown.hidden && shown.dataset.of !== "run") hide(shown);
    };
    document.addEventListener("input", edited, true);
    document.addEventListener("change", edited, true);

    // -- lines that follow the server ------------------------------------------------------------------------------

    const MEMORY_AGAIN = 2000;  // milliseconds between two questions for the memory that is being worked out
    let memoryAsked = 0;
    const fillMemory = async () => {
        if (document.hidden || !find(".atelier-worked-out") || Date.now() - memoryAsked < MEMORY_AGAIN) return;
        memoryAsked = Date.now();
        const { sentences } = await ask("/memory");
        const line = find(".atelier-worked-out");
        if (typeof sentences !== "string" || !line) return;
        line.textContent = sentences;
        line.classList.remove("atelier-worked-out");
    };

    // Dark themes without the page's mark for them have dark scroll bars and fields, too.
    const followTheme = (tab) => {
        const [red, green, blue] = (getComputedStyle(tab).color.match(/[\d.]+/g) || [0, 0, 0]).map(Number);
        const scheme = (red + green + blue) / 3 > 140 ? "dark" : "light";
        if (tab.style.colorScheme !== scheme) tab.style.colorScheme = scheme;
    };

    // Called with each answer of the server: the runs, and the sentence that says what would be trained on.
    form.update = async (jobs, trainsOn) => {
        const tab = find("#atelier_tab");
        if (!tab) return;
        const line = find("#atelier_model_line p");
        if (line && typeof trainsOn === "string") setText(line, heard(trainsOn));
        if (jobs.some(views.isGoing)) form.watch();
        followTheme(tab);
        atelier.reachSections(tab);
        checkMessage(jobs);
        watchTab(tab);
        restore(tab);
        await fillMemory();
    };

    // Sentences with figures in them, which the WebUI does not find in its language. Captions are never among them.
    const SPOKEN = ["#atelier_message p", "#atelier_model_line p", ...[
        ".atelier-problem-count", ".atelier-quiet", ".atelier-buckets li", ".atelier-notes li", ".atelier-problems li",
    ].map((name) => `#atelier_found ${name}`)].join(", ");
    const localise = (tab) => {
        if (!window.localization) return;
        for (const made of tab.querySelectorAll(SPOKEN)) setText(made, heard(made.textContent));
        for (const made of tab.querySelectorAll("#atelier_subject label span")) {
            const word = `subject ${made.textContent.trim()}`, english = atelier.words[word];
            if (english && say(word) !== english) setText(made, say(word));
        }
        const count = tab.querySelector("#atelier_found .atelier-count");
        const whole = count && /^[^,]+(, [^,]+)*\.$/.test(count.textContent) ? count.textContent.slice(0, -1) : "";
        if (whole) setText(count, `${whole.split(", ").map(heard).join(", ")}.`);
    };

    // Gradio puts what was found, and messages, on the page whenever they come.
    let seen = null;
    const watchTab = (tab) => {
        if (seen === tab) return;
        seen = tab;
        const observer = new MutationObserver(() => {
            localise(tab);
            foundChanged(atelier.jobs().some(views.isGoing));
            markErrors().catch((error) => console.error("the fields of an error:", error));
        });
        for (const id of ["#atelier_found", "#atelier_message"]) {
            const area = find(id);
            if (area) observer.observe(area, { childList: true, subtree: true });
        }
        localise(tab);
        foundChanged(true);
    };
    document.addEventListener("click", (event) => {
        const summary = event.composedPath().find((one) => one.matches && one.matches("#atelier_found summary"));
        if (!summary) return;
        opened = !summary.parentElement.open;
        find("#atelier_tab").classList.toggle("atelier-run-first", watched && !opened);
    }, true);

    // -- the form of before ----------------------------------------------------------------------------------------

    // Hands a form, as the server keeps it, to the tab: Gradio's part of the page takes it from a hidden field, and
    // empties that when it is done. `again`: the form of a run that somebody wants to start once more.
    const FILL_PATIENCE = 10000;  // milliseconds
    form.fill = async (path, again) => {
        const content = await ask(path);
        const box = await atelier.until(() => find("#atelier_form textarea, #atelier_form input"), FILL_PATIENCE);
        if (!box || !content.values || (touched && !again)) return;
        const side = find("#atelier_form_side");
        side.setAttribute("aria-busy", "true");
        atelier.type(box, JSON.stringify({ ...content, again }));
        find("#atelier_fill").click();
        await atelier.until(() => !box.isConnected || box.value === "", FILL_PATIENCE);
        side.removeAttribute("aria-busy");
        if (again && side.getBoundingClientRect().top < 0) side.scrollIntoView({ block: "start" });
    };

    // Once for each page that is loaded, as soon as the tab is on it, unless somebody was quicker.
    let restored = false;
    const restore = async (tab) => {
        if (restored || !find("#atelier_fill")) return;
        restored = true;
        await form.fill("/form", false).catch((error) => console.warn("the last form:", error.message));
        tab.dataset.form = "there";
    };
})(window.atelier);
