"use strict";
// The parts of the live panel: each function makes an element from the data of a run.
(function (atelier) {
    const { element, heard, number, say, setText, theirs } = atelier;
    const views = atelier.views = {};

    const OPEN = ["queued", "preparing", "running", "paused", "waiting"];
    views.isOpen = (job) => OPEN.includes(job.state);
    views.isGoing = (job) => views.isOpen(job) && job.state !== "queued";
    views.state = (job) => (job.state in atelier.words ? say(job.state) : job.state);

    views.duration = (seconds) => {
        if (typeof seconds !== "number" || !isFinite(seconds) || seconds < 0) return say("nothing");
        const whole = Math.round(seconds);
        if (whole < 60) return say("seconds", { seconds: whole });
        if (whole < 3600) return say("minutes", { minutes: Math.floor(whole / 60), seconds: whole % 60 });
        return say("hours", { hours: Math.floor(whole / 3600), minutes: Math.round((whole % 3600) / 60) });
    };
    views.bytes = (count) => {
        if (count >= 2 ** 30) return `${(count / 2 ** 30).toFixed(1)} GB`;
        return count >= 2 ** 20 ? `${Math.round(count / 2 ** 20)} MB` : `${Math.ceil(count / 2 ** 10)} KB`;
    };
    const speed = (seconds) => {
        if (!seconds) return say("nothing");
        return seconds < 0.1
            ? say("steps a second", { count: (1 / seconds).toFixed(0) })
            : say("seconds a step", { count: number(seconds) });
    };
    const clock = (date) => date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

    views.chip = (job, id) => element("span", {
        className: `atelier-chip atelier-is-${job.state}`, id, text: views.state(job),
    });

    // What a run makes: a LoRA, or a checkpoint of the whole model. Records of 0.1.0 tell only by what was saved.
    const makes = (job, saves) => (
        job.trains === "checkpoint" || (saves || []).some((save) => save.checkpoint)
            ? say("makes checkpoint") : "LoRA");

    // What Try it does with a saved file: a checkpoint is chosen in the WebUI, a LoRA is called by the prompt.
    views.tryHelp = (save, trigger) => {
        const words = atelier.triedWords(save, trigger);
        if (!save.checkpoint) return say("try lora", { words });
        return words ? say("try checkpoint", { name: save.name, words }) : say("try checkpoint alone", save);
    };
    const doneSentence = (save, trigger) => {
        if (!save.checkpoint) return say("done lora", { tag: `<lora:${save.name}:1>` });
        return trigger ? say("done checkpoint", { name: save.name, trigger }) : say("done checkpoint alone", save);
    };

    // The state of a run in one sentence, for somebody who trains for the first time.
    const sentence = (job, progress, saves) => {
        if (job.newer) return say("newer");
        // What is still drawn after Stop is told, too: it can be left out by another press.
        if (job.asked === "stop") return heard((job.activity && job.activity.text) || "") || say("stopping");
        if (job.asked === "pause") return say("pausing");
        if (job.state === "done" && saves.length) return doneSentence(saves[saves.length - 1], job.trigger);
        if (job.activity && job.activity.text) return heard(job.activity.text);
        if (job.message) return heard(job.message);
        if (job.state === "queued") return say("queued because");
        if (job.state !== "running" || !progress.total) return "";
        return progress.eta > 0 ? say("training left", { left: views.duration(progress.eta) }) : say("training");
    };

    // What screen readers say when the state changes. Most sentences begin with the state.
    views.announcement = (job, saves) => {
        const more = job.state === "running" && !job.asked ? "" : sentence(job, {}, saves);
        const first = views.state(job);
        const told = more.startsWith(first) ? more : `${first}. ${more}`.trim();
        return say("announced", { name: job.name, sentence: told });
    };

    // A button of a run. In the list of runs (`listed`) there can be several of one action, none of which stands out.
    const LOOKS = { resume: "atelier-primary", stop: "atelier-danger" };
    views.button = (action, job, press, saves, listed) => {
        const word = action === "stop" && job.state === "queued" ? "unqueue" : action;
        const look = listed ? "" : LOOKS[action] || "";
        return element("button", {
            className: `atelier-button ${look}`, type: "button", "data-focus": `${action} ${job.id}`,
            id: listed ? null : `atelier_${action}`, text: say(word),
            title: say(`${word} help`, { makes: makes(job, saves) }),
            onclick: (event) => press(action, job, event.currentTarget),
        });
    };

    // press(action) asks the server, tryIt(save) goes to the prompt. Only one button is the next thing to do: where a
    // run can be resumed, that comes before trying what it saved.
    views.title = (job, saves, press, tryIt) => {
        const newest = saves[saves.length - 1];
        const first = job.actions.includes("resume") || views.isOpen(job) ? "" : "atelier-primary";
        const order = ["resume", "save", "sample", "pause", "stop"];
        return element("div", { className: "atelier-title" },
            element("h3", {},
                element("span", { className: "atelier-name", text: theirs(job.name) }),
                views.chip(job, "atelier_state")),
            element("div", { className: "atelier-buttons" },
                newest && element("button", {
                    className: `atelier-button ${first}`, type: "button", id: "atelier_try_it", text: say("try"),
                    "data-focus": `try ${job.id}`, title: views.tryHelp(newest, job.trigger),
                    onclick: () => tryIt(newest, job),
                }),
                ...order.filter((action) => job.actions.includes(action))
                    .map((action) => views.button(action, job, press, saves))));
    };

    views.sentences = (job, error, back) => element("div", { className: "atelier-sentences" },
        element("p", { className: `atelier-sentence${job.state === "failed" ? " atelier-problem" : ""}` }),
        error ? element("p", { className: "atelier-problem", role: "alert", text: error }) : null,
        job.state === "failed" ? element("a", {
            className: "atelier-link atelier-report", href: atelier.address("/report"), target: "_blank",
            rel: "noopener", text: say("report"), "data-focus": "report", title: say("report help"),
        }) : null,
        back ? element("button", {
            className: "atelier-link", type: "button", "data-focus": "back",
            text: say("back", { name: back.name }), onclick: back.go,
        }) : null);
    views.setSentence = (made, job, progress, saves) => setText(made.firstChild, sentence(job, progress, saves));

    // What the bar shows: the steps of the training, or what goes on besides where that can be counted. Null: nothing
    // can be counted yet, and the bar moves to and fro.
    views.barred = (job, progress) => {
        const { done, total, text } = job.activity || {};
        if (total > 0) return { part: Math.min(1, done / total), of: heard(text || "") };
        if (job.state === "preparing" || (job.activity && !progress.step)) return null;
        return { part: progress.total ? Math.min(1, progress.step / progress.total) : 0, of: say("steps done") };
    };
    views.bar = (busy) => {
        const ranges = busy ? {} : { "aria-valuemin": 0, "aria-valuemax": 100 };
        const bar = element("div", {
            className: `atelier-bar${busy ? " atelier-busy" : ""}`, role: "progressbar", ...ranges,
            "aria-label": say("steps done"),
        }, element("div", {}));
        return element("div", { className: "atelier-progress" }, bar,
            element("span", { className: "atelier-percent" }));
    };
    views.setBar = (made, barred) => {
        const [bar, percent] = made.children;
        if (!barred) return;
        const whole = Math.floor(barred.part * 100);
        bar.firstChild.style.width = `${barred.part * 100}%`;
        bar.setAttribute("aria-valuenow", whole);
        bar.setAttribute("aria-label", barred.of);
        setText(percent, `${whole} %`);
    };

    const rates = (found) => {
        const entries = Object.entries(found || {});
        if (new Set(entries.map((entry) => entry[1])).size <= 1) {
            return entries.length ? number(entries[0][1]) : say("nothing");
        }
        return entries.map(([name, rate]) => `${name.replace(/_/g, " ")} ${number(rate)}`).join("\n");
    };

    // The figures that a run has now: word, value, and what stands below it. A schedule ends at a learning rate of 0,
    // which says nothing of a run that has ended, or only draws its last samples.
    views.figures = (job, progress, learningRates) => {
        const going = job.state === "running" && progress.eta > 0;
        const part = (now, whole) => (whole ? say("of", { part: now, whole }) : say("nothing"));
        const end = going ? say("done at", { time: clock(new Date(Date.now() + progress.eta * 1000)) }) : "";
        const figures = [
            ["step", part(progress.step, progress.total), ""],
            ["epoch", part(progress.epoch, progress.epochs), ""],
            ["left", going ? views.duration(progress.eta) : say("nothing"), end],
            ["speed", speed(progress.seconds_per_step), ""],
            ["memory", progress.memory ? views.bytes(progress.memory) : say("nothing"),
                progress.peak_memory ? say("memory help", { peak: views.bytes(progress.peak_memory) }) : ""],
            ["rate", rates(learningRates), ""],
        ];
        const ends = progress.total > 0 && progress.step >= progress.total;
        return views.isOpen(job) && !ends ? figures : figures.filter(([word]) => word !== "left" && word !== "rate");
    };
    views.facts = (figures) => element("div", {},
        element("dl", { className: "atelier-facts" }, ...figures.map(([word]) => element("div", {},
            element("dt", { text: say(word) }), element("dd", {}), element("dd", { className: "atelier-help" })))),
        element("details", { className: "atelier-meanings" },
            element("summary", { text: say("meanings"), "data-focus": "meanings" }),
            element("ul", {}, ...["epoch help", "speed help", "rate help", "loss help"]
                .map((word) => element("li", { text: say(word) })))));
    views.setFacts = (made, figures) => figures.forEach(([, value, help], index) => {
        const [, shown, below] = made.firstChild.children[index].children;
        setText(shown, value);
        setText(below, help);
    });

    views.curve = (id, losses, validation, progress, width) => {
        const note = element("p", { className: "atelier-hint", text: say("curve hint") });
        const key = (name, text) => element("span", { className: `atelier-key ${name}`, text });
        const chart = atelier.chart(losses, validation, progress.total, width, (row, check) => {
            if (!row) {
                setText(note, say("curve hint"));
                return "";
            }
            const said = [say("loss at", { step: row[0], loss: row[1] === null ? "NaN" : number(row[1]) })];
            if (row[2] !== null) said.push(say("average at", { loss: number(row[2]) }));
            if (typeof check === "number") said.push(say("validation at", { loss: number(check) }));
            setText(note, said.join(", "));
            return said.join(", ");
        });
        chart.dataset.focus = `curve ${id}`;
        return element("section", { className: "atelier-curve" },
            element("h4", {}, element("span", { text: say("loss") }),
                key("atelier-key-raw", say("each step")), key("atelier-key-mean", say("average")),
                validation.length ? key("atelier-key-validation", say("validation")) : null),
            chart, note);
    };

    // One strip of pictures per prompt, the newest picture last.
    views.samples = (job, pictures, open) => {
        const prompts = new Map();
        for (const picture of pictures) prompts.set(picture.index, (prompts.get(picture.index) || []).concat(picture));
        const figure = (row, place) => element("figure", {},
            element("button", {
                type: "button", title: say("enlarge"), "data-focus": `picture ${job.id}/${row[place].id}`,
                onclick: () => open(row, place),
            }, element("img", {
                src: row[place].src, alt: say("sample alt", { ...row[place], when: views.when(row[place]) }),
            })),
            element("figcaption", { text: views.when(row[place]) }));
        const strips = [...prompts.keys()].sort((a, b) => a - b).map((index) => {
            const row = prompts.get(index).sort((a, b) => a.step - b.step);
            return element("div", { className: "atelier-strip" },
                element("p", { className: "atelier-hint", text: `“${row[row.length - 1].prompt}”` }),
                element("div", { className: "atelier-pictures" }, ...row.map((picture, place) => figure(row, place))));
        });
        const none = () => element("p", {
            className: "atelier-hint", text: say("samples later", { makes: makes(job) }),
        });
        return element("section", { className: "atelier-samples" }, element("h4", { text: say("samples") }),
            ...(strips.length ? strips : [none()]));
    };
    views.when = (picture) => (picture.step === 0 ? say("before training") : say("at step", picture));

    views.news = (job, saves, messages, tryIt) => {
        const files = saves.slice().reverse().map((save) => element("li", {},
            element("code", { text: theirs(save.name) }),
            element("span", {
                className: "atelier-hint", text: save.label ? heard(save.label) : say("at step", save),
            }),
            element("button", {
                className: "atelier-link", type: "button", text: say("try"), title: views.tryHelp(save, job.trigger),
                "data-focus": `save ${job.id}/${save.name}`, onclick: () => tryIt(save, job),
            })));
        const told = messages.slice().reverse().map((event) => element("li",
            { className: `atelier-${event.level || "info"}` },
            element("time", { text: clock(new Date(event.time * 1000)) }),
            element("span", { text: heard(event.text) })));
        return element("div", { className: "atelier-columns" },
            shortened(say("saved"), "atelier-saves", files), shortened(say("happened"), "atelier-messages", told));
    };
    const MOST_LINES = 5;
    const shortened = (title, name, items) => (items.length ? element("section", { className: name },
        element("h4", { text: title }),
        element("ul", {}, ...items.slice(0, MOST_LINES)),
        views.rest(items.slice(MOST_LINES), (count) => say(count === 1 ? "earlier one" : "earlier ones", { count })),
    ) : null);
    // What does not fit, folded in. `words` says how many there are.
    views.rest = (items, words, more) => (items.length ? element("details", more,
        element("summary", { text: words(items.length) }), element("ul", {}, ...items)) : null);

    views.nothing = (error) => element("div", { className: "atelier-nothing" },
        error ? null : element("p", { className: "atelier-big", text: say("no run") }),
        element("p", { text: error || say("no run hint"), role: error ? "alert" : null }));
})(window.atelier);
