// The few page functions that scripts for WebUIs expect, for the embedded host's page.

const atelierLoaded = [];
const atelierUpdated = [];
let atelierReady = false;

function gradioApp() {
    return document;
}

function onUiLoaded(callback) {
    if (atelierReady) callback();
    else atelierLoaded.push(callback);
}

function onUiUpdate(callback) {
    atelierUpdated.push(callback);
}

function onAfterUiUpdate(callback) {
    atelierUpdated.push(callback);
}

function atelierTabButton(title) {
    const buttons = gradioApp().querySelectorAll('#tabs > .tab-wrapper button[role="tab"]');
    return Array.from(buttons).find((button) => button.textContent.trim() === title) || null;
}

function atelierOpenTab(title) {
    const button = atelierTabButton(title);
    if (button) button.click();
}

function switch_to_txt2img() {
    atelierOpenTab('txt2img');
    return Array.from(arguments);
}

// Loads a checkpoint by its file's name, with or without the ending.
let atelierWantedCheckpoint = '';
function selectCheckpoint(name) {
    atelierWantedCheckpoint = name;
    gradioApp().querySelector('#change_checkpoint').click();
}

// Writes into a Gradio text box as if it had been typed.
function updateInput(field) {
    field.dispatchEvent(new Event('input', {bubbles: true}));
}

function atelierRun(callbacks) {
    for (const callback of callbacks) {
        try {
            callback();
        } catch (error) {
            console.error('a page callback failed:', error);
        }
    }
}

// Gradio builds the page bit by bit: it is there when the last elements of txt2img are. Other tabs, and what is
// folded in, come to the page when they are first opened.
function atelierPageIsThere() {
    const wanted = [
        '#txt2img_prompt textarea', '#txt2img_generate', '#txt2img_lora_cards', '#txt2img_lora_extra_refresh',
    ];
    return wanted.every((selector) => gradioApp().querySelector(selector));
}

function atelierWatchPage() {
    const look = function() {
        if (!atelierReady && atelierPageIsThere()) {
            atelierReady = true;
            atelierRun(atelierLoaded);
        }
        if (atelierReady) atelierRun(atelierUpdated);
    };
    new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
    look();
}

// Gradio may put this script on the page before or after the page is complete.
if (document.body) atelierWatchPage();
else document.addEventListener('DOMContentLoaded', atelierWatchPage);

// Ctrl+Enter draws, from any field of txt2img.
document.addEventListener('keydown', function(event) {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
    const tab = event.target.closest && event.target.closest('#tab_txt2img');
    if (!tab) return;
    event.preventDefault();
    gradioApp().querySelector('#txt2img_generate').click();
});
