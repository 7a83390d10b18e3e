"use strict";
// The list of runs below the panel: choose one, go on with it, try it, use its settings again, delete it.
(function (atelier) {
    const { element, say, theirs, views } = atelier;
    const MOST_RUNS = 6;

    const day = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString([], {
        month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
    }) : "");
    const facts = (job) => [
        job.total ? say("run step", { step: job.step, total: job.total }) : "",
        day(job.created),
        job.size ? views.bytes(job.size) : "",
    ].filter(Boolean).join(", ");

    const small = (action, job, go) => element("button", {
        className: "atelier-button", type: "button", text: say(action), title: say(`${action} help`),
        "aria-label": `${say(action)}: ${job.name}`, "data-focus": `${action} ${job.id}`,
        onclick: (event) => go(job, event.currentTarget),
    });

    // What a row offers: what cannot be undone comes last.
    const buttons = (job, { press, tryRun, use, remove }) => [
        ...["resume", "stop"]
            .filter((action) => job.actions.includes(action) && (job.state === "queued" || action === "resume"))
            .map((action) => views.button(action, job, press, [], true)),
        job.state === "done" && job.saved && small("try", job, tryRun),
        use && !job.newer && small("use", job, use),
        job.deletable && small("delete", job, remove),
    ].filter(Boolean);

    const row = (job, shown, acts) => element("li", { className: job.id === shown ? "atelier-shown" : "" },
        element("button", {
            className: "atelier-link", type: "button", text: theirs(job.name), "data-focus": `run ${job.id}`,
            "aria-current": job.id === shown ? "true" : null, onclick: () => acts.choose(job.id),
        }),
        views.chip(job), element("span", { className: "atelier-hint", text: facts(job) }),
        element("div", { className: "atelier-buttons" }, ...buttons(job, acts)));

    // Runs that go on come first, then the queue in its order, then the newest. `opened`: what the person opened of the
    // list and its rest. `disk`: what all runs and caches take.
    views.runs = (jobs, queued, shown, opened, disk, acts) => {
        const place = (job) => (queued.includes(job.id) ? queued.indexOf(job.id) : Infinity);
        const rows = jobs.slice().reverse()
            .sort((a, b) => views.isGoing(b) - views.isGoing(a) || place(a) - place(b) || 0)
            .map((job) => row(job, shown, acts));
        const toggled = (name) => (event) => {
            opened[name] = !event.currentTarget.parentElement.open;
            if (opened[name]) acts.opened();
        };
        const list = element("details", { className: "atelier-runs", open: opened.runs === true },
            element("summary", {
                "data-focus": "runs", onclick: toggled("runs"),
                text: queued.length
                    ? say("runs and queue", { count: queued.length }) : say("all runs", { count: jobs.length }),
            }),
            element("ul", {}, ...rows.slice(0, MOST_RUNS)));
        const rest = views.rest(rows.slice(MOST_RUNS), (count) => say("more runs", { count }), { open: opened.more });
        if (rest) {
            const summary = rest.firstChild;
            summary.dataset.focus = "more";
            summary.addEventListener("click", toggled("more"));
            list.append(rest);
        }
        if (disk) list.append(diskLine(disk, acts.clear));
        return list;
    };

    // What runs and caches take on the disk; a cache can be emptied, since it is made again when it is needed.
    const diskLine = (disk, clear) => element("div", { className: "atelier-disk" },
        element("span", { className: "atelier-hint", text: say("runs take", { size: views.bytes(disk.runs) }) }),
        ...Object.entries(disk.caches || {}).filter(([, size]) => size > 0).map(([name, size]) => element("span",
            { className: "atelier-hint" },
            `${say(`cache ${name}`)} ${views.bytes(size)} `,
            element("button", {
                className: "atelier-link", type: "button", text: say("clear"), title: say("clear help"),
                "aria-label": `${say("clear")}: ${say(`cache ${name}`)}`, "data-focus": `clear ${name}`,
                onclick: (event) => clear(name, event.currentTarget),
            }))));
})(window.atelier);
