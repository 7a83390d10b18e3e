"use strict";
// The parts of the live panel: each function makes an element from the data of a run.
(function (atelier) {
    const { element, number } = atelier;
    const views = atelier.views = {};

    const STATES = {
        queued: "In the queue", preparing: "Getting ready", running: "Training", paused: "Paused", waiting: "Waiting",
        done: "Done", stopped: "Stopped", failed: "Failed", interrupted: "Interrupted",
    };
    const OPEN = ["queued", "preparing", "running", "paused", "waiting"];
    views.isOpen = (job) => OPEN.includes(job.state);
    views.isGoing = (job) => views.isOpen(job) && job.state !== "queued";

    const many = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
    views.duration = (seconds) => {
        if (typeof seconds !== "number" || !isFinite(seconds) || seconds < 0) return "–";
        const whole = Math.round(seconds);
        if (whole < 60) return `${whole} s`;
        if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
        return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
    };
    const bytes = (count) => (count >= 2 ** 30
        ? `${(count / 2 ** 30).toFixed(1)} GB` : `${Math.round(count / 2 ** 20)} MB`);
    const speed = (seconds) => {
        if (!seconds) return "–";
        return seconds < 0.1 ? `${(1 / seconds).toFixed(0)} steps per second` : `${number(seconds)} s per step`;
    };
    const clock = (date) => date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const day = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString([], {
        month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
    }) : "");

    const chip = (job, id) => element("span", {
        className: `atelier-chip atelier-is-${job.state}`, id, text: STATES[job.state] || job.state,
    });

    // What a run makes: a LoRA, or a checkpoint of the whole model. Records of 0.1.0 tell only by what was saved.
    const makes = (job, saves) => (
        job.trains === "checkpoint" || (saves || []).some((save) => save.checkpoint) ? "checkpoint" : "LoRA");

    // What Try it does with a saved file: a checkpoint has to be chosen in the WebUI, a LoRA is called by the prompt.
    const tryHelp = (save, trigger) => {
        const words = [save.checkpoint ? "" : `<lora:${save.name}:1>`, trigger].filter(Boolean).join(" and ");
        const help = words ? `Puts ${words} into the prompt and goes there` : "Goes to the prompt";
        return save.checkpoint ? `${help}. To draw with it, choose ${save.name} in the list of checkpoints.` : help;
    };
    const doneSentence = (save, trigger) => {
        if (!save.checkpoint) return `Done. Try it puts <lora:${save.name}:1> into your prompt.`;
        const then = trigger ? `Try it puts ${trigger} into your prompt.` : "Try it goes to your prompt.";
        return `Done. Choose ${save.name} in the list of checkpoints. ${then}`;
    };

    // The state of a run in one sentence, for somebody who trains for the first time.
    const sentence = (job, progress, saves) => {
        if (job.newer) return "This run was recorded by a newer version of Atelier. Update Atelier to resume it.";
        if (job.asked === "stop") return "Stopping after this step. What was learned is kept.";
        if (job.asked === "pause") return "Pausing after this step.";
        if (job.state === "done" && saves.length) return doneSentence(saves[saves.length - 1], job.trigger);
        if (job.message) return job.message;
        if (job.state === "queued") return "Starts when the runs before it have ended.";
        if (job.state !== "running" || !progress.total) return "";
        const left = progress.eta > 0 ? `, about ${views.duration(progress.eta)} left` : "";
        return `Training${left}. You can generate pictures meanwhile.`;
    };

    // What screen readers say when the state changes. Most sentences begin with the state.
    views.announcement = (job, saves) => {
        const more = job.state === "running" && !job.asked ? "" : sentence(job, {}, saves);
        const first = STATES[job.state] || job.state;
        return `${job.name}: ${more.startsWith(first) ? more : `${first}. ${more}`.trim()}`;
    };

    // press(action) asks the server, tryIt(save) goes to the prompt.
    const BUTTONS = {
        pause: ["Pause", "Frees the device until you press Resume", ""],
        resume: ["Resume", "Goes on from where the run stopped", "atelier-primary"],
        save: ["Save now", "Saves the WHAT as it is now. Training goes on.", ""],
        sample: ["Sample now", "Draws the sample pictures with the WHAT as it is now", ""],
        stop: ["Stop", "Ends the run after this step and keeps what was learned", "atelier-danger"],
    };
    // In the list of runs (`listed`) there can be several buttons of one action.
    const button = (action, job, press, saves, listed) => {
        const [text, help, look] = BUTTONS[action];
        const queued = action === "stop" && job.state === "queued";
        return element("button", {
            className: `atelier-button ${look}`, type: "button", "data-focus": `${action} ${job.id}`,
            id: listed ? null : `atelier_${action}`, text: queued ? "Remove from queue" : text,
            title: queued ? "This run will not be trained" : help.replace("WHAT", makes(job, saves)),
            onclick: (event) => press(action, job, event.currentTarget),
        });
    };

    views.title = (job, saves, press, tryIt) => {
        const newest = saves[saves.length - 1];
        const order = ["resume", "save", "sample", "pause", "stop"];
        return element("div", { className: "atelier-title" },
            element("h3", {},
                element("span", { className: "atelier-name", text: job.name }), chip(job, "atelier_state")),
            element("div", { className: "atelier-buttons" },
                newest && element("button", {
                    className: "atelier-button atelier-primary", type: "button", id: "atelier_try_it", text: "Try it",
                    "data-focus": `try ${job.id}`, title: tryHelp(newest, job.trigger), onclick: () => tryIt(newest),
                }),
                ...order.filter((action) => job.actions.includes(action))
                    .map((action) => button(action, job, press, saves))));
    };

    views.sentence = (job, progress, saves, error, back) => element("div", { className: "atelier-sentences" },
        element("p", {
            className: `atelier-sentence${job.state === "failed" ? " atelier-bad" : ""}`,
            text: sentence(job, progress, saves),
        }),
        error ? element("p", { className: "atelier-problem", role: "alert", text: error }) : null,
        job.state === "failed" ? element("a", {
            className: "atelier-link atelier-report",
            href: atelier.address("/report"), target: "_blank", rel: "noopener",
            text: "Text for a bug report", "data-focus": "report",
            title: "Versions, card and the last errors, without names, folders and prompts",
        }) : null,
        back ? element("button", {
            className: "atelier-link", type: "button", "data-focus": "back",
            text: `Back to ${back.name}, which is training`, onclick: back.go,
        }) : null);

    views.bar = (job, progress) => {
        const part = progress.total ? Math.min(1, progress.step / progress.total) : 0;
        const busy = job.state === "preparing" && !progress.total;
        const bar = element("div", {
            className: `atelier-bar${busy ? " atelier-busy" : ""}`, role: "progressbar",
            "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(part * 100),
            "aria-label": "Steps done",
        }, element("div", {}));
        bar.firstChild.style.width = busy ? "30%" : `${part * 100}%`;
        return element("div", { className: "atelier-progress" }, bar,
            element("span", {
                className: "atelier-percent", text: progress.total ? `${Math.floor(part * 100)} %` : "",
            }));
    };

    const rates = (found) => {
        const entries = Object.entries(found || {});
        if (new Set(entries.map((entry) => entry[1])).size <= 1) return entries.length ? number(entries[0][1]) : "–";
        return entries.map(([name, rate]) => `${name.replace(/_/g, " ")} ${number(rate)}`).join("\n");
    };

    views.facts = (job, progress, learningRates) => {
        const going = job.state === "running" && progress.eta > 0;
        const end = going ? `done at ${clock(new Date(Date.now() + progress.eta * 1000))}` : "";
        const rows = [
            ["Step", progress.total ? `${progress.step} of ${progress.total}` : "–", ""],
            ["Epoch", progress.epochs ? `${progress.epoch} of ${progress.epochs}` : "–",
                "One epoch is one pass through all pictures"],
            ["Time left", going ? views.duration(progress.eta) : "–", end],
            ["Speed", speed(progress.seconds_per_step), "Time for one step, without waits while you generate pictures"],
            ["Memory", progress.memory ? bytes(progress.memory) : "–",
                progress.peak_memory ? `Peak so far: ${bytes(progress.peak_memory)}` : ""],
            ["Learning rate", rates(learningRates), "How much each step changes the weights"],
        ];
        const told = views.isOpen(job) ? rows : rows.filter((row) => row[0] !== "Time left");
        return element("dl", { className: "atelier-facts" }, ...told.map(([name, value, help]) => element("div",
            { title: help }, element("dt", { text: name }), element("dd", { text: value }),
            end && help === end ? element("small", { text: end }) : null)));
    };

    views.curve = (losses, validation, progress, width) => {
        const hint = "Thin line: the loss of each step, noisy by nature. Thick line: its average. It falls at first, "
            + "then levels off. Judge the result by the samples.";
        const note = element("p", { className: "atelier-hint", text: hint });
        const key = (name, text) => element("span", { className: `atelier-key ${name}`, text });
        const chart = atelier.chart(losses, validation, progress.total, width, (row, check) => {
            if (!row) { note.textContent = hint; return; }
            const said = [`Step ${row[0]}: loss ${row[1] === null ? "NaN" : number(row[1])}`];
            if (row[2] !== null) said.push(`average ${number(row[2])}`);
            if (typeof check === "number") said.push(`validation ${number(check)}`);
            note.textContent = said.join(", ");
        });
        return element("section", { className: "atelier-curve" },
            element("h4", {}, element("span", { text: "Loss" }),
                key("atelier-key-raw", "each step"), key("atelier-key-mean", "average"),
                validation.length ? key("atelier-key-validation", "validation") : null),
            chart, note);
    };

    // One strip of pictures per prompt, the newest picture last.
    views.samples = (job, pictures, open) => {
        const prompts = new Map();
        for (const picture of pictures) prompts.set(picture.index, (prompts.get(picture.index) || []).concat(picture));
        const strips = [...prompts.keys()].sort((a, b) => a - b).map((index) => {
            const row = prompts.get(index).sort((a, b) => a.step - b.step);
            return element("div", { className: "atelier-strip" },
                element("p", { className: "atelier-hint", text: `“${row[row.length - 1].prompt}”` }),
                element("div", { className: "atelier-pictures" }, ...row.map((picture, place) => element("figure", {},
                    element("button", {
                        type: "button", title: "Enlarge", "data-focus": `picture ${job.id}/${picture.id}`,
                        onclick: () => open(row, place),
                    },
                        element("img", { src: picture.src, alt: `${picture.prompt}, ${views.when(picture)}` })),
                    element("figcaption", { text: views.when(picture) })))));
        });
        return element("section", { className: "atelier-samples" }, element("h4", { text: "Samples" }),
            ...(strips.length ? strips : [element("p", {
                className: "atelier-hint",
                text: `Sample pictures appear here, drawn with the ${makes(job)} so far, always from the same noise.`,
            })]));
    };
    views.when = (picture) => (picture.step === 0 ? "before training" : `step ${picture.step}`);

    views.news = (job, saves, messages, tryIt) => {
        const files = saves.slice().reverse().map((save) => element("li", {},
            element("code", { text: save.name }),
            element("span", { className: "atelier-hint", text: `step ${save.step}` }),
            element("button", {
                className: "atelier-link", type: "button", text: "Try it", title: tryHelp(save, job.trigger),
                "data-focus": `save ${job.id}/${save.name}`, onclick: () => tryIt(save),
            })));
        const told = messages.slice().reverse().map((event) => element("li",
            { className: `atelier-${event.level || "info"}` },
            element("time", { text: clock(new Date(event.time * 1000)) }), element("span", { text: event.text })));
        const list = (title, name, items) => (items.length ? element("section", { className: name },
            element("h4", { text: title }),
            element("ul", {}, ...items.slice(0, 5)),
            items.length > 5 ? element("details", {},
                element("summary", { text: many(items.length - 5, "earlier one") }),
                element("ul", {}, ...items.slice(5))) : null) : null);
        return element("div", { className: "atelier-columns" },
            list("Saved", "atelier-saves", files), list("What happened", "atelier-messages", told));
    };

    // `onOpen` is told when the list is opened or closed by hand.
    views.runs = (jobs, queued, shown, open, onOpen, choose, press) => {
        const place = (job) => (queued.includes(job.id) ? queued.indexOf(job.id) : Infinity);
        const rows = jobs.slice().reverse()
            .sort((a, b) => views.isGoing(b) - views.isGoing(a) || place(a) - place(b) || 0);
        const told = (job) => [job.total ? `step ${job.step} of ${job.total}` : "", day(job.created)]
            .filter(Boolean).join(", ");
        return element("details", { className: "atelier-runs", open },
            element("summary", {
                "data-focus": "runs", onclick: (event) => onOpen(!event.currentTarget.parentElement.open),
                text: queued.length ? `Queue and earlier runs (${queued.length} waiting)` : `All runs (${jobs.length})`,
            }),
            element("ul", {}, ...rows.map((job) => element("li", { className: job.id === shown ? "atelier-shown" : "" },
                element("button", {
                    className: "atelier-link", type: "button", text: job.name, "data-focus": `run ${job.id}`,
                    onclick: () => choose(job.id),
                }),
                chip(job), element("span", { className: "atelier-hint", text: told(job) }),
                job.id !== shown && (job.state === "queued" || job.resumable)
                    ? element("div", { className: "atelier-buttons" },
                        ...["resume", "stop"].filter((action) => job.actions.includes(action))
                            .map((action) => button(action, job, press, [], true))) : null))));
    };

    views.nothing = (error) => element("div", { className: "atelier-nothing" },
        element("p", { className: "atelier-big", text: error ? "" : "Nothing is training yet." }),
        element("p", {
            text: error || "Choose pictures and a trigger word, then press Train. The loss curve, sample pictures and "
                + "the finished LoRA appear here.",
        }));
})(window.atelier);
