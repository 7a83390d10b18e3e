"use strict";
// Try it: a saved LoRA goes into the prompt, a saved checkpoint is chosen in the WebUI. And the WebUI's lists of both.
(function (atelier) {
    const { find, roots, say, type } = atelier;
    const LIST_PATIENCE = 5000;  // milliseconds until a list that does not change is left alone
    const PAGE_PATIENCE = 2000;  // milliseconds until the tab that draws is given up

    // SD.Next's ModernUI generates on a page of its own and hides txt2img. The button that opens that page, else null.
    const modernPage = () => find("#control_nav");

    const openTxt2img = () => {
        const modern = modernPage();
        if (modern) {
            modern.click();
            return;
        }
        if (typeof window.switch_to_txt2img === "function") {
            window.switch_to_txt2img();
        } else {
            const tabs = 'button[role="tab"], #tabs .tab-nav button, #tabs > div > button';
            const buttons = roots().flatMap((root) => [...root.querySelectorAll(tabs)]);
            const wanted = buttons.find((button) => /^(txt2img|text)$/i.test(button.textContent.trim()));
            if (wanted) wanted.click();
        }
        openGeneration();
    };

    // txt2img has tabs of its own: the picture is drawn on the first one, whatever language its name is in.
    const openGeneration = () => {
        const inner = find("#txt2img_extra_tabs > .tab-nav, #txt2img_extra_tabs > .tab-wrapper");
        const first = inner && inner.querySelector("button");
        if (first) first.click();
    };

    // Presses a tab's refresh button, and waits until its list of LoRAs is another one.
    const pressAndWait = async (button) => {
        const tab = button.id.split("_")[0];
        const list = () => find(`#${tab}lora_extra_page .extra-network-cards`) || find(`#${tab}_lora_cards`);
        const before = list();
        button.dispatchEvent(new Event("click", { bubbles: true }));
        await atelier.until(() => list() !== before, LIST_PATIENCE);
    };

    const refreshAll = async () => {
        const there = (ids) => ids.map((id) => find(`#${id}`)).filter(Boolean);
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
        const button = ids.map((id) => find(`#${id}`)).find(Boolean);
        if (button) button.click();
    };

    // What goes into the prompt for a saved file, in words.
    atelier.triedWords = (save, trigger) => (
        [save.checkpoint ? "" : `<lora:${save.name}:1>`, trigger].filter(Boolean).join(say("and")));

    const intoPrompt = (box, save, trigger, run) => {
        const stem = (run || save.name).replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
        const older = new RegExp(`\\s*<lora:${stem}(-\\d{6}|-step\\d{8})?(:[^<>]*)?>`, "g");
        let prompt = box.value.replace(older, "").trim();
        if (trigger && !prompt.includes(trigger)) prompt = prompt ? `${prompt.replace(/,$/, "")}, ${trigger}` : trigger;
        const tag = save.checkpoint ? "" : `<lora:${save.name}:1>`;
        type(box, `${prompt} ${tag}`.trim());
    };

    // Puts a saved LoRA and its trigger into the prompt, in place of other saves of the same run, and goes there. No
    // prompt calls a checkpoint: that is chosen in the WebUI, which loads it, and only the trigger is put there. `run`
    // is the output name of the run. Throws an Error with what is left to do by hand.
    atelier.tryIt = (save, trigger, run) => {
        const box = find(modernPage() ? "#control_prompt textarea" : "#txt2img_prompt textarea");
        if (!box) {
            const words = atelier.triedWords(save, trigger);
            throw new Error(words ? say("no prompt, write", { words }) : say("no prompt"));
        }
        if (save.checkpoint) atelier.refreshCheckpoints();
        else atelier.refreshLoras();
        intoPrompt(box, save, trigger, run);
        const chooses = typeof window.selectCheckpoint === "function";
        if (save.checkpoint && chooses) window.selectCheckpoint(save.name);
        openTxt2img();
        // Its tab shows a moment later, and what is hidden takes no focus.
        atelier.until(() => box.offsetParent, PAGE_PATIENCE).then(() => box.focus());
        if (save.checkpoint && !chooses) throw new Error(say("no checkpoint", { name: save.name }));
    };
})(window.atelier);
