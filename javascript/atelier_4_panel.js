"use strict";
// The live panel of the training tab: finds the run that matters, follows it, and shows it in #atelier_panel.
(function (atelier) {
    const { element, ask, views, place } = atelier;
    const BUSY = 1000, IDLE = 3000, HIDDEN = 6000, SOON = 300;
    const page = {
        jobs: [], queued: [], chosen: null, error: "", lost: false, run: null, runsOpen: null, told: null,
    };

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
            } else if (typeof event.text === "string") {
                run.messages.push(event);
            }
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

    const look = async () => {
        try {
            const answer = await ask("/jobs");
            page.jobs = answer.jobs;
            page.queued = answer.queued;
            const id = wanted();
            if (!page.run || page.run.id !== id) page.run = id ? newRun(id) : null;
            const run = page.run;
            if (run) {
                const cursor = encodeURIComponent(run.cursor);
                const news = await ask(`${pathOf(id)}/events?since=${run.seen}&losses=${cursor}`);
                if (page.run === run) take(run, news);
            }
            if (page.lost) page.error = "";
            page.lost = false;
        } catch (error) {
            page.error = error.message;
            page.lost = true;
        }
    };

    // -- pressing --------------------------------------------------------------------------------------------------

    const press = async (action, job, button) => {
        // Not `disabled`: that would throw the keyboard's focus away.
        if (button.getAttribute("aria-disabled") === "true") return;
        button.setAttribute("aria-disabled", "true");
        try {
            await ask(`${pathOf(job.id)}/${action}`, "POST");
            page.error = "";
        } catch (error) {
            page.error = error.message;
        }
        button.removeAttribute("aria-disabled");
        atelier.tick();
    };

    const tryIt = (save) => {
        const job = page.run.news;
        try {
            if (save.checkpoint) atelier.refreshCheckpoints();
            else atelier.refreshLoras();
            atelier.tryIt(save.name, job.trigger, job.name, save.checkpoint);
            page.error = "";
        } catch (error) {
            page.error = error.message;
        }
        draw();
    };

    const choose = (id) => {
        page.chosen = id;
        page.error = "";
        atelier.tick();
    };

    const openLarge = (pictures, at) => {
        const image = element("img", { alt: "" });
        const words = element("p", {});
        const show = (place) => {
            at = (place + pictures.length) % pictures.length;
            image.src = pictures[at].src;
            image.alt = pictures[at].prompt;
            words.textContent = `${views.when(pictures[at])}: “${pictures[at].prompt}”`;
        };
        const step = (text, name, by) => element("button", {
            className: "atelier-button", type: "button", text, title: name, "aria-label": name,
            onclick: () => show(at + by),
        });
        const dialog = element("dialog", {
            className: "atelier-large", onclose: () => dialog.remove(),
            onclick: (event) => { if (event.target === dialog) dialog.close(); },
            onkeydown: (event) => {
                if (event.key === "ArrowLeft") show(at - 1);
                if (event.key === "ArrowRight") show(at + 1);
            },
        }, image, element("div", { className: "atelier-large-foot" },
            step("←", "Earlier picture", -1), words, step("→", "Later picture", 1),
            element("button", {
                className: "atelier-button", type: "button", text: "Close", onclick: () => dialog.close(),
            })));
        atelier.find("#atelier_panel").append(dialog);
        show(at);
        dialog.showModal();
    };

    // -- drawing ---------------------------------------------------------------------------------------------------

    // Strips stay where they were scrolled to, or at their newest picture, whose width is known when it is loaded.
    const placeSamples = (parent, run) => {
        const strips = () => [...parent.querySelectorAll(".atelier-pictures")];
        const end = (strip) => strip.scrollLeft + strip.clientWidth >= strip.scrollWidth - 8;
        const places = strips().map((strip) => (end(strip) ? undefined : strip.scrollLeft));
        const before = parent.querySelector(".atelier-samples");
        place(parent, "samples", [run.id, run.pictures.map((picture) => picture.id)],
            () => views.samples(run.news, run.pictures, openLarge));
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
        if (page.runsOpen === null && page.queued.length) page.runsOpen = true;
        const list = page.jobs.map(
            (job) => [job.id, job.state, job.resumable, job.actions.length, views.isGoing(job) ? 0 : job.step]);
        const onOpen = (open) => { page.runsOpen = open; };
        const shown = page.run && page.run.id;
        place(panel, "runs", page.jobs.length > 1 ? [list, page.queued, shown] : null,
            () => views.runs(page.jobs, page.queued, shown, page.runsOpen === true, onOpen, choose, press));
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
        const said = [job.state, job.message, job.asked, run.saves.length, views.duration(progress.eta)];
        place(card, "sentence", [run.id, page.error, back && back.name, ...said],
            () => views.sentence(job, progress, run.saves, page.error, back));
        const begun = views.isGoing(job) || progress.total > 0 || run.pictures.length > 0;
        place(card, "bar", begun ? [job.state === "preparing", progress.step, progress.total] : null,
            () => views.bar(job, progress));
        place(card, "facts", begun ? [run.id, job.state, progress, job.rates] : null,
            () => views.facts(job, progress, job.rates));
        place(card, "main", begun ? run.id : null, () => element("div", { className: "atelier-columns" },
            element("div", { className: "atelier-left" }), element("div", { className: "atelier-right" })));
        const left = card.querySelector(".atelier-left");
        if (left) {
            const width = Math.max(280, Math.round(left.clientWidth || 560));
            place(left, "curve", [run.cursor, run.validation.length, progress.total, width],
                () => views.curve(run.losses, run.validation, progress, width));
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
        if (hit.id === "atelier_train") page.chosen = null;
        for (const times of [1, 4]) setTimeout(atelier.tick, SOON * times);
    }, true);
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", atelier.tick);
    else atelier.tick();
})(window.atelier);
