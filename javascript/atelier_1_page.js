"use strict";
// What the panel needs from its page, in every WebUI and every Gradio: finding elements, asking the server, Try it.
window.atelier = window.atelier || {};

(function (atelier) {
    const roots = () => {
        const app = document.querySelector("gradio-app");
        return app && app.shadowRoot ? [app.shadowRoot, document] : [document];
    };

    // The first element of the page that matches, also inside Gradio's shadow root. null when there is none.
    atelier.find = (selector) => roots().reduce((found, root) => found || root.querySelector(selector), null);

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
            const lost = new Error("The WebUI does not answer. Is it still running? This page keeps trying.");
            lost.lost = true;
            throw lost;
        }
        const content = await response.json().catch(() => ({}));
        if (response.ok) return content;
        const said = content.error || (typeof content.detail === "string" ? content.detail : "");
        throw new Error(said || `The WebUI answered with ${response.status} ${response.statusText}.`);
    };

    // Writes into a Gradio text box as if it had been typed.
    const type = (box, text) => {
        const setter = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set;
        setter.call(box, text);
        box.dispatchEvent(new Event("input", { bubbles: true }));
        box.dispatchEvent(new Event("change", { bubbles: true }));
    };

    // SD.Next's ModernUI generates on a page of its own and hides txt2img. The button that opens that page, else null.
    const modernPage = () => atelier.find("#control_nav");

    const openTxt2img = () => {
        const modern = modernPage();
        if (modern) {
            modern.click();
            return;
        }
        if (typeof window.switch_to_txt2img === "function") {
            window.switch_to_txt2img();
            return;
        }
        for (const root of roots()) {
            const buttons = [
                ...root.querySelectorAll('button[role="tab"], #tabs .tab-nav button, #tabs > div > button'),
            ];
            const wanted = buttons.find((button) => /^(txt2img|text)$/i.test(button.textContent.trim()));
            if (wanted) {
                wanted.click();
                return;
            }
        }
    };

    // Presses a tab's refresh button, and waits until its list of LoRAs is another one.
    const pressAndWait = (button) => new Promise((resolve) => {
        const tab = button.id.split("_")[0];
        const list = () => atelier.find(`#${tab}lora_extra_page .extra-network-cards`)
            || atelier.find(`#${tab}_lora_cards`);
        const [before, until] = [list(), Date.now() + PATIENCE];
        button.dispatchEvent(new Event("click", { bubbles: true }));
        const look = () => (list() !== before || Date.now() > until ? resolve() : setTimeout(look, 100));
        look();
    });

    const refreshAll = async () => {
        const there = (ids) => ids.map((id) => atelier.find(`#${id}`)).filter(Boolean);
        const internal = there(["txt2img_lora_extra_refresh_internal", "img2img_lora_extra_refresh_internal"]);
        const shown = there([
            "txt2img_lora_extra_refresh", "img2img_lora_extra_refresh",
            "txt2img_extra_refresh", "img2img_extra_refresh",
            "control_extra_refresh", "video_extra_refresh",
        ]);
        for (const button of internal.length ? internal : shown) await pressAndWait(button);
    };

    // New files show in the host's lists of LoRAs without a reload of the page: its own refresh buttons are pressed,
    // one after the other, since A1111 empties and fills its list anew for each and would show half of it.
    const PATIENCE = 5000;
    let refreshing = Promise.resolve(), waiting = false;
    atelier.refreshLoras = () => {
        if (waiting) return;
        waiting = true;
        refreshing = refreshing.then(() => {
            waiting = false;
            return refreshAll();
        }).catch((error) => console.error("the list of LoRAs:", error));
    };

    // The same for the host's list of checkpoints.
    atelier.refreshCheckpoints = () => {
        const ids = ["refresh_sd_model_checkpoint", "forge_refresh_checkpoint", "settings_sd_model_checkpoint_refresh"];
        const button = ids.map((id) => atelier.find(`#${id}`)).find(Boolean);
        if (button) button.click();
    };

    // Puts a LoRA and its trigger into the prompt, in place of other saves of the same run, and goes there. No prompt
    // calls a checkpoint: of one, only the trigger is put there. `run` is the output name of that run.
    atelier.tryIt = (name, trigger, run, checkpoint) => {
        const tag = checkpoint ? "" : `<lora:${name}:1>`;
        const box = atelier.find(modernPage() ? "#control_prompt textarea" : "#txt2img_prompt textarea");
        if (!box) {
            const more = tag || trigger ? ` Write ${tag || trigger} into your prompt yourself.` : "";
            throw new Error(`The prompt field was not found.${more}`);
        }
        const stem = (run || name).replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
        const older = new RegExp(`\\s*<lora:${stem}(-\\d{6}|-step\\d{8})?(:[^<>]*)?>`, "g");
        let prompt = box.value.replace(older, "").trim();
        if (trigger && !prompt.includes(trigger)) prompt = prompt ? `${prompt.replace(/,$/, "")}, ${trigger}` : trigger;
        type(box, `${prompt} ${tag}`.trim());
        openTxt2img();
        box.focus();
    };

    // Links to the text for a bug report, which Gradio puts on the page, are led to where the WebUI is served.
    document.addEventListener("click", (event) => {
        const link = event.composedPath().find((one) => one.matches && one.matches("a.atelier-report"));
        if (link) link.href = atelier.address("/report");
    }, true);

    // The summary of the pictures ends with the memory that the run needs. Predicting it can take some seconds, so the
    // line is filled in when the answer is there.
    const ASK_AGAIN = 2000;
    setInterval(async () => {
        if (document.hidden || !atelier.find(".atelier-worked-out")) return;
        const { sentences } = await atelier.ask("/memory").catch(() => ({ sentences: null }));
        const line = atelier.find(".atelier-worked-out");
        if (typeof sentences !== "string" || !line) return;
        line.textContent = sentences;
        line.classList.remove("atelier-worked-out");
    }, ASK_AGAIN);
})(window.atelier);
