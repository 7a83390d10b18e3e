"use strict";
// The live panel of the training tab: finds the run that matters, follows it, and shows it in #atelier_panel.
(function (atelier) {
    const { element, ask } = atelier;
    const NAMES = {
        queued: "In the queue", preparing: "Getting ready", running: "Training", paused: "Paused",
        waiting: "Waiting for the model", done: "Done", stopped: "Stopped", failed: "Failed", interrupted: "Interrupted",
    };
    const GOING = ["preparing", "running", "paused", "waiting"];
    const view = { id: null, seen: 0, losses: [], events: [], news: null, jobs: [], chosen: null, saves: 0, error: "" };

    const duration = (seconds) => {
        if (!isFinite(seconds) || seconds <= 0) return "–";
        const whole = Math.round(seconds);
        if (whole < 60) return `${whole} s`;
        if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
        return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
    };
    const bytes = (count) => (count > 1e9 ? `${(count / 2 ** 30).toFixed(2)} GB` : `${Math.round((count || 0) / 2 ** 20)} MB`);
    const speed = (seconds) => (!seconds ? "–" : seconds < 0.1 ? `${(1 / seconds).toFixed(1)} steps/s` : `${seconds.toFixed(2)} s/step`);

    const press = (text, path, help, name) => element("button", {
        className: `atelier-button ${name || ""}`, type: "button", title: help, textContent: text,
        onclick: async (event) => {
            event.target.disabled = true;
            try { await ask(path, "POST"); view.error = ""; } catch (error) { view.error = error.message; }
            await tick();
        },
    });

    const buttons = (job) => {
        const at = `/jobs/${encodeURIComponent(job.id)}`;
        const row = element("div", { className: "atelier-buttons" });
        const newest = (view.news && view.news.saves || []).slice(-1)[0];
        if (newest) {
            row.append(element("button", {
                className: "atelier-button atelier-primary", type: "button", id: "atelier_try_it", textContent: "Try it",
                title: "Puts the newest save and the trigger word into the prompt and goes there",
                onclick: () => {
                    try { atelier.tryIt(newest.name, job.trigger, job.name); } catch (error) { view.error = error.message; draw(); }
                },
            }));
        }
        if (job.state === "running" || job.state === "waiting" || job.state === "preparing") {
            row.append(press("Pause", `${at}/pause`, "Frees the device; Resume goes on"));
        }
        if (job.state === "paused") row.append(press("Resume", `${at}/resume`, "Goes on where it was", "atelier-primary"));
        if (job.state === "running") {
            row.append(press("Save now", `${at}/save`, "Writes the LoRA as it stands"));
            row.append(press("Sample now", `${at}/sample`, "Draws the sample pictures now"));
        }
        if (GOING.includes(job.state)) row.append(press("Stop", `${at}/stop`, "Ends after this step and keeps what is learnt", "atelier-stop"));
        if (job.state === "queued") row.append(press("Take out", `${at}/stop`, "Takes it out of the queue"));
        if (job.resumable) row.append(press("Resume", `${at}/resume`, "Goes on where it was", "atelier-primary"));
        return row;
    };

    const facts = (progress) => {
        const rates = view.losses.length ? view.losses[view.losses.length - 1][2] : {};
        const rows = [
            ["Step", progress.total ? `${progress.step} of ${progress.total}` : "–"],
            ["Epoch", progress.epochs ? `${progress.epoch} of ${progress.epochs}` : "–"],
            ["Speed", speed(progress.seconds_per_step)],
            ["Time left", duration(progress.eta)],
            ["Memory", progress.memory ? bytes(progress.memory) : "–"],
            ["Learning rate", [...new Set(Object.values(rates || {}).map((rate) => rate.toExponential(2)))].join(", ") || "–"],
        ];
        return element("dl", { className: "atelier-facts" }, ...rows.map(([name, value]) =>
            element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }))));
    };

    const curve = (progress) => {
        const note = element("div", { className: "atelier-note", textContent: "Loss: each step faint, its mean in colour. It wavers; falling slowly is good." });
        const plain = note.textContent;
        const chart = atelier.chart(view.losses, progress.total, (row, mean) => {
            note.textContent = row ? `Step ${row[0]}: loss ${row[1] === null ? "not a number" : row[1].toFixed(4)}, mean ${mean === null ? "–" : mean.toFixed(4)}` : plain;
        });
        return element("div", { className: "atelier-curve" }, chart, note);
    };

    const samples = (job, pictures) => {
        if (!pictures.length) return null;
        const strip = element("div", { className: "atelier-samples" });
        for (const picture of pictures.slice(-24)) {
            const address = atelier.address(`/jobs/${encodeURIComponent(job.id)}/samples/${encodeURIComponent(picture.file)}`);
            strip.append(element("figure", {},
                element("a", { href: address, target: "_blank" }, element("img", { src: address, alt: picture.prompt, loading: "lazy", title: picture.prompt })),
                element("figcaption", { textContent: picture.step === 0 ? "before" : `step ${picture.step}` })));
        }
        return element("section", {}, element("h4", { textContent: "Samples" }), strip);
    };

    const messages = () => {
        const told = view.events.filter((event) => ["message", "saved", "unwritten"].includes(event.kind)).slice(-8);
        if (!told.length) return null;
        return element("ul", { className: "atelier-messages" }, ...told.map((event) => element("li", {
            className: `atelier-${event.level || "info"}`,
            textContent: event.kind === "saved" ? `Saved ${event.name} after step ${event.step}.` : event.text,
        })));
    };

    const others = () => {
        const rest = view.jobs.filter((job) => job.id !== view.id).slice(-12).reverse();
        if (!rest.length) return null;
        return element("details", { className: "atelier-others", open: rest.some((job) => job.state === "queued") },
            element("summary", { textContent: `Other runs (${rest.length})` }),
            ...rest.map((job) => element("div", { className: "atelier-other" },
                element("button", { className: "atelier-link", type: "button", textContent: job.name, onclick: () => { view.chosen = job.id; tick(); } }),
                element("span", { textContent: `${NAMES[job.state] || job.state}${job.total ? `, step ${job.step} of ${job.total}` : ""}` }),
                job.state === "queued" || job.resumable ? buttons(job) : null)));
    };

    // Only what changed is put on the page again, so that a button is not replaced under the pointer.
    const place = (panel, name, made, key) => {
        let slot = panel.querySelector(`:scope > [data-slot="${name}"]`);
        if (!slot) { slot = element("div", {}); slot.dataset.slot = name; panel.append(slot); }
        if (slot.dataset.key === key) return;
        slot.dataset.key = key;
        const content = made();
        slot.replaceChildren(...(content ? [content] : []));
    };

    const draw = () => {
        const panel = atelier.find("#atelier_panel");
        if (!panel) return;
        const job = view.jobs.find((one) => one.id === view.id);
        if (!job || !view.news) {
            place(panel, "empty", () => element("p", { className: "atelier-empty", textContent: view.error ||
                "Nothing is training. Give pictures and a trigger word above and press Train; progress, samples and the result show here." }), view.error || "empty");
            for (const name of ["head", "bar", "facts", "curve", "samples", "messages"]) place(panel, name, () => null, "");
        } else {
            const news = view.news, progress = news.progress || {};
            const done = progress.total ? Math.min(100, 100 * progress.step / progress.total) : 0;
            place(panel, "empty", () => null, "");
            place(panel, "head", () => element("div", { className: "atelier-head" },
                element("h3", {}, element("span", { textContent: job.name }), element("span", { className: `atelier-state atelier-${job.state}`, id: "atelier_state", textContent: NAMES[job.state] || job.state })),
                element("p", { className: "atelier-status", textContent: view.error || job.message || "" }),
                buttons(job)), JSON.stringify([job.id, job.state, job.message, job.resumable, view.error, (news.saves || []).length]));
            place(panel, "bar", () => element("div", { className: "atelier-bar", role: "progressbar", "aria-valuenow": Math.round(done) },
                element("div", { style: `width:${done}%` })), String(done));
            place(panel, "facts", () => facts(progress), JSON.stringify(progress));
            place(panel, "curve", () => curve(progress), `${job.id} ${view.losses.length}`);
            place(panel, "samples", () => samples(job, news.samples || []), `${job.id} ${(news.samples || []).length}`);
            place(panel, "messages", messages, `${job.id} ${view.events.length}`);
        }
        place(panel, "others", others, JSON.stringify([view.id, view.jobs.map((one) => [one.id, one.state, one.resumable])]));
    };

    // The run to show: the one that was chosen, else the one that is going, else the newest.
    const choose = () => {
        const going = view.jobs.find((job) => GOING.includes(job.state));
        const chosen = view.jobs.find((job) => job.id === view.chosen);
        const newest = view.jobs[view.jobs.length - 1];
        return (chosen || going || newest || {}).id || null;
    };

    const tick = async () => {
        if (!atelier.find("#atelier_panel")) return;
        try {
            view.jobs = (await ask("/jobs")).jobs;
            const id = choose();
            if (id !== view.id) Object.assign(view, { id, seen: 0, losses: [], events: [], news: null, saves: -1 });
            if (id) {
                const news = await ask(`/jobs/${encodeURIComponent(id)}/events?since=${view.seen}&loss=${view.losses.length}`);
                view.losses.push(...news.losses);
                view.events.push(...news.events);
                if (news.events.length) view.seen = news.events[news.events.length - 1].id;
                view.news = news;
                if (view.saves >= 0 && news.saves.length > view.saves) atelier.refreshLoras();
                view.saves = news.saves.length;
            }
        } catch (error) {
            view.error = error.message === "Failed to fetch" ? "The WebUI does not answer; trying again." : error.message;
        }
        draw();
    };
    atelier.tick = tick;

    let timer = null;
    const loop = async () => {
        await tick();
        const going = view.jobs.some((job) => GOING.includes(job.state) || job.state === "queued");
        timer = setTimeout(loop, document.hidden ? 5000 : going ? 1000 : 2500);
    };
    document.addEventListener("visibilitychange", () => { if (!document.hidden && timer) { clearTimeout(timer); loop(); } });
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", loop); else loop();
})(window.atelier);
