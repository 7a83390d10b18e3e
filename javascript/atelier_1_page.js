"use strict";
// What the panel needs from its page, in every WebUI and every Gradio: finding elements, and asking the server.
window.atelier = window.atelier || {};

(function (atelier) {
    // The page, and Gradio's shadow root where there is one.
    atelier.roots = () => {
        const app = document.querySelector("gradio-app");
        return app && app.shadowRoot ? [app.shadowRoot, document] : [document];
    };

    // The first element of the page that matches, also inside Gradio's shadow root. null when there is none.
    atelier.find = (selector) => atelier.roots().reduce((found, root) => found || root.querySelector(selector), null);

    // An element with text and children. Text only ever goes in as text: a caption cannot become markup.
    atelier.element = (tag, properties, ...children) => {
        const made = document.createElement(tag);
        for (const [name, value] of Object.entries(properties || {})) {
            if (value === undefined || value === null) continue;
            if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
            else if (name === "text") made.textContent = value;
            else if (name in made && name !== "style" && name !== "role") made[name] = value;
            else made.setAttribute(name, value);
        }
        made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
        return made;
    };

    // The path that the page is served under: "" or "/sub". Gradio knows it; else the address tells.
    const base = () => {
        const root = window.gradio_config && window.gradio_config.root;
        if (root) {
            try {
                return new URL(root, location.href).pathname.replace(/\/+$/, "");
            } catch (error) {
                console.warn("Gradio's root is not an address:", root, error);
            }
        }
        return location.pathname.replace(/\/[^/]*$/, "");
    };
    atelier.address = (path) => `${base()}/atelier/v1${path}`;

    // Asks a route. A refusal becomes an Error whose message is the server's sentence.
    atelier.ask = async (path, method) => {
        let response;
        try {
            response = await fetch(atelier.address(path), {
                method: method || "GET", headers: { "X-Atelier": "1" }, cache: "no-store",
            });
        } catch (error) {
            const lost = new Error(atelier.say("lost"));
            lost.lost = true;
            throw lost;
        }
        const content = await response.json().catch(() => ({}));
        if (response.ok) return content;
        const said = content.error || (typeof content.detail === "string" ? content.detail : "");
        throw new Error(said || atelier.say("refused", { status: `${response.status} ${response.statusText}`.trim() }));
    };

    // Writes into a Gradio text box as if it had been typed.
    atelier.type = (box, text) => {
        const kind = box instanceof HTMLTextAreaElement ? HTMLTextAreaElement : HTMLInputElement;
        Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(box, text);
        box.dispatchEvent(new Event("input", { bubbles: true }));
        box.dispatchEvent(new Event("change", { bubbles: true }));
    };

    // Waits until `found()` gives something, and gives that; null after `patience` milliseconds.
    atelier.until = (found, patience) => new Promise((resolve) => {
        const end = Date.now() + patience;
        const look = () => {
            const there = found();
            if (there || Date.now() > end) resolve(there || null);
            else setTimeout(look, 100);
        };
        look();
    });

    // Links to the text for a bug report, which Gradio puts on the page, are led to where the WebUI is served.
    document.addEventListener("click", (event) => {
        const link = event.composedPath().find((one) => one.matches && one.matches("a.atelier-report"));
        if (link) link.href = atelier.address("/report");
    }, true);
})(window.atelier);
