"use strict";
// The page in the WebUI's language. WebUIs of A1111's kind merge the chosen language's files, their own and those of
// extensions, into `window.localization`: English texts, and each text in that language.
window.atelier = window.atelier || {};

(function (atelier) {
    // The text in the WebUI's language; the text itself where it has none.
    const local = (text) => {
        const known = window.localization || {};
        const found = Object.prototype.hasOwnProperty.call(known, text) ? known[text] : "";
        return typeof found === "string" && found ? found : text;
    };
    const fill = (template, values) => local(template).replace(/\{(\w+)\}/g, (whole, name) => String(values[name]));

    // The words of a key, with `values` in place of the names in braces. Text of a person's own is filled in as it is.
    atelier.say = (key, values) => fill(atelier.words[key], values || {});

    // A sentence of the server's. Where it has figures or names in it, it is found by the template that it was made by.
    const patterns = new Map();
    const pattern = (template) => {
        if (!patterns.has(template)) {
            const plain = (text) => text.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
            patterns.set(template, new RegExp(`^${plain(template).replace(/\{(\w+)\}/g, "(?<$1>.+)")}$`));
        }
        return patterns.get(template);
    };
    atelier.heard = (text) => {
        const known = local(text);
        if (known !== text || !window.localization) return known;
        for (const template of atelier.sentences) {
            const found = pattern(template).exec(text);
            if (found) return fill(template, found.groups);
        }
        return text;
    };

    // A text of a person's own that stands alone, such as the name of a run. The WebUI translates any text of the page
    // that its language knows. An invisible character (a word joiner) keeps such a name out of its reach.
    atelier.theirs = (text) => (local(text.trim()) === text.trim() ? text : `\u2060${text}`);
})(window.atelier);
