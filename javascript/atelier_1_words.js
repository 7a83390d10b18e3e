"use strict";
// Every word of the live panel, in one place. `atelier.say(key, values)` fills in what stands in braces, and takes the
// text that the WebUI's language has for the whole template, where it has one.
window.atelier = window.atelier || {};

(function (atelier) {
    const WORDS = {
        // The states of a run.
        queued: "In the queue",
        preparing: "Getting ready",
        running: "Training",
        paused: "Paused",
        waiting: "Waiting",
        done: "Done",
        stopped: "Stopped",
        failed: "Failed",
        interrupted: "Interrupted",

        // A run's state in a sentence.
        newer: "This run was recorded by a newer version of Atelier. Update Atelier to resume it.",
        stopping: "Stopping after this step. What was learned is kept.",
        pausing: "Pausing after this step.",
        "done lora": "Done. Try it puts {tag} into your prompt.",
        "done checkpoint": "Done. Try it chooses the checkpoint {name} and puts {trigger} into your prompt.",
        "done checkpoint alone": "Done. Try it chooses the checkpoint {name} and goes to your prompt.",
        "queued because": "Starts when the runs before it have ended.",
        training: "Training. You can generate pictures meanwhile.",
        "training left": "Training, about {left} left. You can generate pictures meanwhile.",
        announced: "{name}: {sentence}",
        back: "Back to {name}, which is training",
        report: "Text for a bug report",
        "report help": "Versions, card and the last errors, without names, folders and prompts",

        // Buttons: what they say, and what they do.
        pause: "Pause",
        "pause help": "Frees the device until you press Resume",
        resume: "Resume",
        "resume help": "Goes on from where the run stopped",
        save: "Save now",
        "save help": "Saves the {makes} as it is now. Training goes on.",
        sample: "Sample now",
        "sample help": "Draws the sample pictures with the {makes} as it is now",
        stop: "Stop",
        "stop help": "Ends the run after this step and keeps what was learned",
        unqueue: "Remove from queue",
        "unqueue help": "This run will not be trained",
        try: "Try it",
        "try lora": "Puts {words} into the prompt and goes there",
        "try checkpoint": "Chooses the checkpoint {name} in the WebUI, puts {words} into the prompt and goes there",
        "try checkpoint alone": "Chooses the checkpoint {name} in the WebUI and goes to the prompt",
        and: " and ",

        // Figures.
        "steps done": "Steps done",
        step: "Step",
        epoch: "Epoch",
        "epoch help": "Epoch: one pass through all pictures.",
        left: "Time left",
        "done at": "done at {time}",
        speed: "Speed",
        "speed help": "Speed: the time for one step, without waits while you generate pictures.",
        memory: "Memory",
        "memory help": "Peak so far: {peak}",
        rate: "Learning rate",
        "rate help": "Learning rate: how much each step changes the weights.",
        "loss help": "Loss: how far the model is from the pictures. It is noisy by nature: look at the samples.",
        meanings: "What these figures mean",
        of: "{part} of {whole}",
        "steps a second": "{count} steps per second",
        "seconds a step": "{count} s per step",
        nothing: "–",
        seconds: "{seconds} s",
        minutes: "{minutes} min {seconds} s",
        hours: "{hours} h {minutes} min",
        "makes checkpoint": "checkpoint",

        // The curve.
        loss: "Loss",
        "each step": "each step",
        average: "average",
        validation: "validation",
        "curve hint": "It falls at first, then levels off. Judge the result by the samples.",
        "curve from to": "Loss by step. The average went from {first} to {last}. Arrow keys go from step to step.",
        "curve start": "The curve starts with the first step.",
        "step 0": "step 0",
        "loss at": "Step {step}: loss {loss}",
        "average at": "average {loss}",
        "validation at": "validation {loss}",

        // Samples.
        samples: "Samples",
        "samples later": "Sample pictures appear here, drawn with the {makes} so far, always from the same noise.",
        enlarge: "Enlarge",
        "sample alt": "{prompt}, {when}",
        "before training": "before training",
        "at step": "step {step}",
        "large name": "Sample picture",
        earlier: "Earlier picture",
        later: "Later picture",
        close: "Close",

        // What was saved and what happened.
        saved: "Saved",
        happened: "What happened",
        "earlier one": "1 earlier one",
        "earlier ones": "{count} earlier ones",

        // The list of runs.
        "all runs": "All runs ({count})",
        "runs and queue": "Queue and earlier runs ({count} waiting)",
        "more runs": "{count} more",
        "run step": "step {step} of {total}",
        "try help": "Opens the prompt with what this run saved last",
        use: "Use these settings",
        "use help": "Fills the form with the pictures and settings of this run",
        delete: "Delete run",
        "delete help": "Deletes its samples, curve and saved states. Files that it saved for the WebUI stay.",
        "delete sure": "Delete the run {name}? Its samples, curve and saved states are gone then. "
            + "Files that it saved for the WebUI stay.",
        "runs take": "All runs take {size}.",
        "cache latents": "Prepared pictures:",
        "cache text": "Prepared captions:",
        "cache class_pictures": "Class pictures:",
        clear: "Clear",
        "clear help": "They are made again when a run needs them",

        // What the pictures show: with more around it than the form has, so that no such name elsewhere is translated.
        "subject person": "What it is: person",
        "subject object": "What it is: object",
        "subject style": "What it is: style",

        // Telling somebody who looks elsewhere.
        tell: "Tell me when it is done",
        "tell insecure": "Browsers notify only on pages with https, or of this computer itself.",
        "tell never": "This browser has no notifications.",
        "tell refused": "Notifications of this page are turned off in the browser's settings.",

        // Searching the settings, and what was changed in them.
        "good value": "Recommended: {value}",
        "good on": "on",
        "good off": "off",
        "good empty": "empty",
        found: "{count} settings found",
        "found one": "1 setting found",
        "found above": "At the top of the page: {names}",
        "found in files": "Only in files and on the command line: {names}",
        "found none": "No setting has these words in its name, key or help.",
        changed: "Changed by you ({count})",
        "reset one": "Reset",
        "reset one help": "Puts the recommended value into {label} again",

        // The page.
        "no run": "Nothing is training yet.",
        "no run hint": "Choose pictures and a trigger word, then press Train. The loss curve, sample pictures and the "
            + "finished LoRA appear here.",
        lost: "The WebUI does not answer. Is it still running? This page keeps trying.",
        refused: "The WebUI answered with {status}.",
        "no prompt": "The prompt field was not found.",
        "no prompt, write": "The prompt field was not found. Write {words} into your prompt yourself.",
        "no checkpoint": "Choose the checkpoint {name} in the WebUI's list of checkpoints yourself.",
    };

    // Sentences of the server that have figures or names in them: without these, for `atelier.heard`.
    const SENTENCES = [
        // Beside the form.
        "Trains on {model}.",
        "{name} is in the queue. Runs before it: {waiting}.",
        "The training of {name} starts.",
        "The settings of {name} are in the form.",
        "There is a LoRA named {name} already; {free} is free.",

        // What was found.
        "{size}: 1 picture",
        "{size}: {count} pictures",
        "{captioned} of {count} captioned",
        "{count} class pictures",
        "{count} pictures",
        "{steps} steps",
        "{count} things to look at",
        "… and {more} more.",

        // What goes on, and what happened.
        "Drawing sample {number} of {count} before training",
        "Drawing sample {number} of {count} of step {step}",
        "Drawing the sample of step {step}",
        "Drew the samples of step {step}.",
        "Saved {name}.",
        "Resumed at step {step}.",
        "The model is loaded again. Training goes on at step {step}.",
        "Going on from step {step}.",
        "Waiting to go on from step {step}.",
        "Stopped after step {step}. What was learned is kept.",
        "{missing} class pictures are missing and are drawn now.",
        "step {step}",
        "epoch {epoch}",
    ];

    atelier.words = WORDS;
    atelier.sentences = SENTENCES;
})(window.atelier);
