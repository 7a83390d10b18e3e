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
    const buttons = gradioApp().querySelectorAll('#tabs button[role="tab"]');
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

document.addEventListener('DOMContentLoaded', function() {
    const observer = new MutationObserver(function() {
        if (!atelierReady && gradioApp().querySelector('#txt2img_prompt textarea')) {
            atelierReady = true;
            atelierRun(atelierLoaded);
        }
        if (atelierReady) atelierRun(atelierUpdated);
    });
    observer.observe(document.body, {childList: true, subtree: true});
});

// Ctrl+Enter draws, from any field of txt2img.
document.addEventListener('keydown', function(event) {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
    const tab = event.target.closest && event.target.closest('#tab_txt2img');
    if (!tab) return;
    event.preventDefault();
    gradioApp().querySelector('#txt2img_generate').click();
});
