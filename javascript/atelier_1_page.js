"use strict";
// What the panel needs of the page it is on, whichever WebUI and whichever Gradio that is.
window.atelier = window.atelier || {};

(function (atelier) {
    const HOSTS_ROOT = () => {
        const app = document.querySelector("gradio-app");
        return app && app.shadowRoot ? app.shadowRoot : document;
    };

    atelier.find = (selector) => HOSTS_ROOT().querySelector(selector) || document.querySelector(selector);

    // An element with text and children. Text only ever goes in as text, so that a caption cannot become markup.
    atelier.element = (tag, properties, ...children) => {
        const made = document.createElement(tag);
        for (const [name, value] of Object.entries(properties || {})) {
            if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
            else if (name in made && name !== "list") made[name] = value;
            else made.setAttribute(name, value);
        }
        made.append(...children.filter((child) => child !== null && child !== undefined));
        return made;
    };

    const base = () => {
        const root = window.gradio_config && window.gradio_config.root;
        if (root) {
            try { return new URL(root, location.href).pathname.replace(/\/$/, ""); } catch { return ""; }
        }
        return location.pathname.replace(/\/[^/]*$/, "").replace(/\/$/, "");
    };
    atelier.address = (path) => `${base()}/atelier/v1${path}`;

    // Asks a route. A refusal becomes an Error whose message is the server's sentence.
    atelier.ask = async (path, method = "GET") => {
        const response = await fetch(atelier.address(path), { method, headers: { "X-Atelier": "1" } });
        const content = await response.json().catch(() => ({}));
        if (!response.ok) throw new Error(content.error || content.detail || `The WebUI answered ${response.status}.`);
        return content;
    };

    const type = (box, text) => {
        const setter = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set;
        setter.call(box, text);
        box.dispatchEvent(new Event("input", { bubbles: true }));
        box.dispatchEvent(new Event("change", { bubbles: true }));
    };

    // New files show in the host's list of LoRAs without a reload: its own refresh buttons are pressed.
    atelier.refreshLoras = () => {
        const buttons = [
            "#txt2img_lora_extra_refresh_internal", "#img2img_lora_extra_refresh_internal",
            "#txt2img_lora_extra_refresh", "#img2img_lora_extra_refresh", "#txt2img_extra_refresh",
        ].map(atelier.find).filter(Boolean);
        const internal = buttons.filter((button) => button.id.endsWith("_internal"));
        for (const button of internal.length ? internal : buttons) {
            button.dispatchEvent(new Event("click", { bubbles: true }));
        }
        document.dispatchEvent(new CustomEvent("atelier:saved"));
    };

    const openTab = () => {
        if (typeof window.switch_to_txt2img === "function") {
            window.switch_to_txt2img();
            return;
        }
        const buttons = [...HOSTS_ROOT().querySelectorAll("button[role=tab], #tabs > div > button, .tab-nav button")];
        const wanted = buttons.find((button) => button.textContent.trim().toLowerCase() === "txt2img");
        if (wanted) wanted.click();
    };

    // Puts the LoRA and its trigger into the prompt, replacing an older save of the same run, and goes there.
    atelier.tryIt = (name, trigger, family) => {
        const box = atelier.find("#txt2img_prompt textarea");
        if (!box) throw new Error("The prompt was not found on this page; type <lora:" + name + ":1> into it.");
        const stem = (family || name).replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
        const older = new RegExp(`\\s*<lora:${stem}(-\\d{6}|-step\\d{8})?:[^>]*>`, "g");
        let prompt = box.value.replace(older, "").trim();
        if (trigger && !prompt.includes(trigger)) prompt = prompt ? `${prompt}, ${trigger}` : trigger;
        type(box, `${prompt} <lora:${name}:1>`.trim());
        openTab();
    };
})(window.atelier);
