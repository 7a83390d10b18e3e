"use strict";
// Telling somebody who looks elsewhere: per cent in the page's title while a run trains, and the browser's own
// notifications of runs that end or wait, once somebody has switched them on.
(function (atelier) {
    const { element, find, place, say, views } = atelier;

    // -- the title of the page, which is the WebUI's ---------------------------------------------------------------

    // `theirs`: the title as the WebUI has set it; `ours`: what stands there instead, null when nothing does.
    let theirs = null, ours = null;
    const putBack = () => {
        if (ours !== null && document.title === ours) document.title = theirs;
        [theirs, ours] = [null, null];
    };
    const showPercent = (percent) => {
        if (document.title !== ours) {
            // A WebUI that draws may count in its title, too: as long as it changes it, it is left alone.
            const settled = theirs === null || document.title === theirs;
            [theirs, ours] = [document.title, null];
            if (!settled) return;
        }
        document.title = `${percent}% · ${theirs}`;
        ours = document.title;
    };
    const follow = (jobs) => {
        const job = jobs.find((one) => one.state === "running" && one.total > 0);
        if (job) showPercent(Math.floor((100 * Math.min(job.step, job.total)) / job.total));
        else putBack();
    };
    window.addEventListener("pagehide", putBack);

    // -- notifications ---------------------------------------------------------------------------------------------

    // What nobody has asked for at the page itself; Stop and Pause were pressed there.
    const TOLD = ["done", "failed", "interrupted", "waiting"];
    const KEPT = "atelier.tell";
    let hint = "";

    const keep = (on) => {
        try {
            localStorage.setItem(KEPT, on ? "on" : "off");
        } catch (error) {
            console.warn("the switch is not kept:", error.message);
        }
    };
    const isOn = () => {
        try {
            return "Notification" in window && Notification.permission === "granted"
                && localStorage.getItem(KEPT) === "on";
        } catch (error) {
            return false;
        }
    };

    // The states at the look before, by run; null before the first look, after which only changes are told.
    let before = null;
    const tellChanges = (jobs) => {
        for (const job of before && isOn() ? jobs : []) {
            const known = before.get(job.id);
            if (known && known !== job.state && TOLD.includes(job.state)) notify(job);
        }
        before = new Map(jobs.map((job) => [job.id, job.state]));
    };
    const notify = (job) => {
        const body = views.announcement(job, job.saved ? [job.saved] : []);
        try {
            // With a tag, several pages of one WebUI show one notification.
            const shown = new Notification("Atelier", { body, tag: `atelier ${job.id} ${job.state}` });
            shown.onclick = () => {
                window.focus();
                shown.close();
            };
        } catch (error) {
            console.warn("a notification:", error.message);
        }
    };

    // The browser asks once, and only because the switch was pressed.
    const turn = async (event) => {
        const box = event.currentTarget, wanted = box.checked;
        hint = "";
        if (wanted && !window.isSecureContext) hint = say("tell insecure");
        else if (wanted && !("Notification" in window)) hint = say("tell never");
        else if (wanted && Notification.permission === "default") await Notification.requestPermission();
        if (wanted && !hint && Notification.permission !== "granted") hint = say("tell refused");
        keep(wanted && !hint);
        draw();
    };

    // -- the switch, above the list of runs ------------------------------------------------------------------------

    const draw = () => {
        const panel = find("#atelier_panel");
        if (!panel) return;
        if (!panel.querySelector(':scope > [data-slot="tell"]')) {
            const slot = element("div", {});
            slot.dataset.slot = "tell";
            panel.insertBefore(slot, panel.querySelector(':scope > [data-slot="runs"]'));
        }
        const on = isOn();
        place(panel, "tell", atelier.jobs().length ? [hint] : null, () => element("p", { className: "atelier-tell" },
            element("label", {},
                element("input", {
                    type: "checkbox", role: "switch", id: "atelier_tell", "data-focus": "tell", onchange: turn,
                }),
                element("span", { text: say("tell") })),
            element("span", { className: "atelier-hint", role: "status", text: hint })),
        (made) => { made.querySelector("input").checked = on; });
    };

    // The panel tells of each look at the server; without runs where it got no answer.
    document.addEventListener("atelier-looked", (event) => {
        const { jobs } = event.detail;
        if (!jobs) {
            putBack();
            return;
        }
        follow(jobs);
        tellChanges(jobs);
        draw();
    });
})(window.atelier);
