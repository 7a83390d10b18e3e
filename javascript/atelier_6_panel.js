"use strict";
// The live panel of the training tab: finds the run that matters, follows it, and shows it in #atelier_panel.
(function (atelier) {
    const { element, ask, form, views, place, say } = atelier;
    // Milliseconds between two looks at the server: while a run is open, otherwise, in a hidden page, after a click.
    const BUSY = 1000, IDLE = 3000, HIDDEN = 6000, SOON = 300;
    const page = {
        jobs: [], queued: [], trainsOn: null, disk: null, chosen: null, error: "", errorOf: "", lost: false, run: null,
        opened: { runs: null, more: false }, told: null, scroll: false, before: null,
    };
    atelier.jobs = () => page.jobs;

    const fail = (error) => {
        page.error = error.message;
        page.errorOf = stateOf(page.run);
    };
    const stateOf = (run) => (run && run.news ? `${run.id} ${run.news.state}` : "");

    // What is known of the run that is shown.
    const newRun = (id) => ({
        id, news: null, seen: 0, cursor: "", losses: [], validation: [], pictures: [], saves: [], messages: [],
        first: true,
    });

    const pathOf = (id) => `/jobs/${encodeURIComponent(id)}`;

    const take = (run, news) => {
        run.losses = news.losses.reset ? news.losses.rows : run.losses.concat(news.losses.rows);
        run.cursor = news.losses.cursor;
        run.seen = news.last_event;
        let [saved, checkpoint] = [false, false];
        for (const event of news.events) {
            if (event.kind === "sample") {
                const file = encodeURIComponent(event.file);
                const src = atelier.address(`${pathOf(run.id)}/samples/${file}?v=${event.id}`);
                run.pictures = run.pictures.filter((one) => one.step !== event.step || one.index !== event.index);
                run.pictures.push({ ...event, src });
            } else if (event.kind === "saved") {
                run.saves = run.saves.filter((one) => one.name !== event.name).concat(event);
                saved = true;
                checkpoint = checkpoint || event.checkpoint;
            } else if (event.kind === "validation") {
                run.validation = run.validation.filter((row) => row[0] < event.step).concat([[event.step, event.loss]]);
            }
            if (typeof event.text === "string") run.messages.push(event);
        }
        run.news = news;
        if (saved && !run.first) atelier.refreshLoras();
        if (checkpoint && !run.first) atelier.refreshCheckpoints();
        run.first = false;
    };

    // The run to show: the one that was chosen, or the one that is going, or the next in the queue, or the newest.
    const wanted = () => {
        const found = page.jobs.find((job) => job.id === page.chosen) || page.jobs.find(views.isGoing)
            || page.jobs.find((job) => job.id === page.queued[0]) || page.jobs[page.jobs.length - 1];
        return found ? found.id : null;
    };

    // Train was pressed, and here is the run. After an error there is none, and all stays as it is.
    const started = () => {
        [page.before, page.chosen, page.scroll] = [null, null, true];
        form.watch();
    };

    const look = async () => {
        try {
            const answer = await ask("/jobs");
            [page.jobs, page.queued, page.trainsOn] = [answer.jobs, answer.queued, answer.trains_on];
            if (page.before && page.jobs.some((job) => !page.before.includes(job.id))) started();
            const id = wanted();
            if (!page.run || page.run.id !== id) page.run = id ? newRun(id) : null;
            const run = page.run;
            if (run) {
                const cursor = encodeURIComponent(run.cursor);
                const news = await ask(`${pathOf(id)}/events?since=${run.seen}&losses=${cursor}`);
                if (page.run === run) take(run, news);
            }
            // What an error said of a run holds as long as the run's state.
            if (page.lost || page.errorOf !== stateOf(page.run)) page.error = "";
            page.lost = false;
            await form.update(page.jobs, page.trainsOn);
            looked(page.jobs);
        } catch (error) {
            fail(error);
            page.lost = true;
            looked(null);
        }
    };

    // Other scripts follow the runs, too. Without an answer, or on a page that is left, `jobs` is null.
    const looked = (jobs) => document.dispatchEvent(new CustomEvent("atelier-looked", { detail: { jobs } }));

    // -- pressing --------------------------------------------------------------------------------------------------

    // Does what a button is for; the button cannot be pressed again meanwhile.
    const doing = async (button, work) => {
        // Not `disabled`: that would throw the keyboard's focus away.
        if (button.getAttribute("aria-disabled") === "true") return;
        button.setAttribute("aria-disabled", "true");
        try {
            await work();
            page.error = "";
        } catch (error) {
            fail(error);
        }
        button.removeAttribute("aria-disabled");
        atelier.tick();
    };

    const press = (action, job, button) => doing(button, async () => {
        await ask(`${pathOf(job.id)}/${action}`, "POST");
        if (action === "resume" && !views.isOpen(job)) page.chosen = job.id;
    });

    const tryIt = (save, job) => {
        try {
            atelier.tryIt(save, job.trigger, job.name);
            page.error = "";
        } catch (error) {
            fail(error);
        }
        draw();
    };

    const choose = (id) => {
        page.chosen = id;
        page.error = "";
        page.scroll = true;
        form.watch();
        atelier.tick();
    };

    const measureDisk = async () => { page.disk = await ask("/storage"); };

    // What the rows of the list of runs can do.
    const acts = {
        choose,
        press,
        tryRun: (job) => tryIt(job.saved, job),
        use: (job, button) => doing(button, () => form.fill(`${pathOf(job.id)}/form`, true)),
        remove: (job, button) => doing(button, async () => {
            if (!window.confirm(say("delete sure", job))) return;
            await ask(pathOf(job.id), "DELETE");
            if (page.chosen === job.id) page.chosen = null;
            await measureDisk();
        }),
        clear: (name, button) => doing(button, async () => {
            await ask(`/storage/${name}/clear`, "POST");
            await measureDisk();
        }),
        opened: () => measureDisk().then(draw).catch((error) => console.warn("the sizes:", error.message)),
    };

    // -- drawing ---------------------------------------------------------------------------------------------------

    // Strips stay where they were scrolled to, or at their newest picture, whose width is known when it is loaded.
    const placeSamples = (parent, run) => {
        const strips = () => [...parent.querySelectorAll(".atelier-pictures")];
        const end = (strip) => strip.scrollLeft + strip.clientWidth >= strip.scrollWidth - 8;
        const places = strips().map((strip) => (end(strip) ? undefined : strip.scrollLeft));
        const before = parent.querySelector(".atelier-samples");
        place(parent, "samples", [run.id, run.pictures.map((picture) => picture.id)],
            () => views.samples(run.news, run.pictures, atelier.openLarge));
        if (parent.querySelector(".atelier-samples") === before) return;
        strips().forEach((strip, index) => {
            const go = () => { strip.scrollLeft = places[index] === undefined ? strip.scrollWidth : places[index]; };
            for (const image of strip.querySelectorAll("img")) image.addEventListener("load", go, { once: true });
            go();
        });
    };

    const draw = () => {
        const panel = atelier.find("#atelier_panel");
        if (!panel) return;
        const run = page.run && page.run.news ? page.run : null;
        place(panel, "nothing", run ? null : [page.error], () => views.nothing(page.error));
        place(panel, "card", run ? "card" : null, () => element("div", { className: "atelier-card-run" }));
        if (run) drawRun(panel.querySelector(".atelier-card-run"), run);
        announce(panel, run);
        if (page.scroll && run) showPanel(panel);
        if (page.opened.runs === null && page.queued.length) page.opened.runs = true;
        const list = page.jobs.map((job) => [
            job.id, job.state, job.resumable, job.actions.length, Boolean(job.saved),
            views.isGoing(job) ? 0 : [job.step, job.size],
        ]);
        const shown = page.run && page.run.id;
        place(panel, "runs", page.jobs.length ? [list, page.queued, shown, page.disk, page.opened] : null,
            () => views.runs(page.jobs, page.queued, shown, page.opened, page.disk, acts));
    };

    // A run that was just started or chosen is seen, wherever the page was scrolled to.
    const showPanel = (panel) => {
        page.scroll = false;
        const { top } = panel.getBoundingClientRect();
        if (top >= 0 && top < innerHeight / 2) return;
        const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
        panel.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
    };

    // Changes of the state are said; how it was when the page was opened, or the panel built anew, is not.
    const announce = (panel, run) => {
        const state = run ? JSON.stringify([run.id, run.news.state, run.news.asked]) : "";
        const changed = page.told !== null && page.told !== state && run;
        const silent = !panel.querySelector(":scope > .atelier-announced");
        if (silent) atelier.announce(panel, "");
        else if (changed) atelier.announce(panel, views.announcement(run.news, run.saves));
        page.told = state;
    };

    const drawRun = (card, run) => {
        const job = run.news, progress = job.progress || {};
        const going = page.jobs.find((one) => views.isGoing(one) && one.id !== run.id);
        const back = going ? { name: going.name, go: () => choose(null) } : null;
        place(card, "title", [run.id, job.state, job.actions, run.saves.length],
            () => views.title(job, run.saves, press, tryIt));
        place(card, "sentence", [run.id, page.error, back && back.name, job.state],
            () => views.sentences(job, page.error, back),
            (made) => views.setSentence(made, job, progress, run.saves));
        const begun = views.isGoing(job) || progress.total > 0 || run.pictures.length > 0;
        const barred = views.barred(job, progress);
        place(card, "bar", begun ? [!barred] : null, () => views.bar(!barred), (made) => views.setBar(made, barred));
        const figures = views.figures(job, progress, job.rates);
        place(card, "facts", begun ? figures.map(([word]) => word) : null,
            () => views.facts(figures), (made) => views.setFacts(made, figures));
        place(card, "main", begun ? run.id : null, () => element("div", { className: "atelier-columns" },
            element("div", { className: "atelier-left" }), element("div", { className: "atelier-right" })));
        const left = card.querySelector(".atelier-left");
        if (left) {
            const width = Math.max(280, Math.round(left.clientWidth || 560));
            place(left, "curve", [run.cursor, run.validation.length, progress.total, width],
                () => views.curve(run.id, run.losses, run.validation, progress, width));
            placeSamples(card.querySelector(".atelier-right"), run);
        }
        place(card, "news", [run.id, run.saves.length, run.messages.length],
            () => views.news(run.news, run.saves, run.messages, tryIt));
    };

    // -- time ------------------------------------------------------------------------------------------------------

    let timer = null, looking = null, built = false;
    // Reload UI empties the page and builds the WebUI anew; a question between two steps of that can end it.
    const isLeft = () => {
        const there = Boolean(document.querySelector("gradio-app"));
        built = built || there;
        return built && !there;
    };
    const pause = () => {
        if (document.hidden) return HIDDEN;
        if (page.lost) return IDLE;
        return page.jobs.some(views.isOpen) && atelier.find("#atelier_panel") ? BUSY : IDLE;
    };

    // Looks, draws, and comes again. Asked for while it looks, it looks once more.
    atelier.tick = () => {
        clearTimeout(timer);
        if (isLeft()) {
            looked(null);
            timer = setTimeout(atelier.tick, IDLE);
            return;
        }
        if (looking) {
            looking = "again";
            return;
        }
        looking = "now";
        look().then(draw).catch((error) => console.error("the training panel:", error)).then(() => {
            const again = looking === "again";
            looking = null;
            if (again) atelier.tick();
            else timer = setTimeout(atelier.tick, pause());
        });
    };

    document.addEventListener("visibilitychange", () => { if (!document.hidden) atelier.tick(); });
    window.addEventListener("resize", draw);
    // Train was pressed: show the new run as soon as the queue has it. Another tab was opened: draw at the new width.
    document.addEventListener("click", (event) => {
        const hit = event.composedPath().find((one) => one.matches && one.matches('#atelier_train, [role="tab"]'));
        if (!hit) return;
        if (hit.id === "atelier_train") page.before = page.jobs.map((job) => job.id);
        for (const times of [1, 4]) setTimeout(atelier.tick, SOON * times);
    }, true);
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", atelier.tick);
    else atelier.tick();
})(window.atelier);
