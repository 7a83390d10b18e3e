"use strict";
// A sample picture enlarged, with its neighbours one arrow key away.
(function (atelier) {
    const { element, say, views } = atelier;

    // pictures: those of one strip; `at` is the one to begin with.
    atelier.openLarge = (pictures, at) => {
        const image = element("img", { alt: "" });
        const words = element("p", { role: "status" });
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
            className: "atelier-large", "aria-label": say("large name"), onclose: () => dialog.remove(),
            onclick: (event) => { if (event.target === dialog) dialog.close(); },
            onkeydown: (event) => {
                if (event.key === "ArrowLeft") show(at - 1);
                if (event.key === "ArrowRight") show(at + 1);
            },
        }, image, element("div", { className: "atelier-large-foot" },
            step("←", say("earlier"), -1), words, step("→", say("later"), 1),
            element("button", {
                className: "atelier-button", type: "button", text: say("close"), onclick: () => dialog.close(),
            })));
        atelier.find("#atelier_panel").append(dialog);
        show(at);
        dialog.showModal();
    };
})(window.atelier);
