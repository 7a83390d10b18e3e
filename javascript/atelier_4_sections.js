"use strict";
// Sections that fold are reached and opened by the keyboard. In Gradio 3 their headers are plain boxes, which the
// keyboard passes over and a screen reader does not call buttons; in later ones they are buttons, and nothing is done.
(function (atelier) {
    const BOXES = "#atelier_tab div.label-wrap";
    const tell = (header) => header.setAttribute("aria-expanded", String(header.classList.contains("open")));

    // Called again and again: sections are built when the one around them is first opened.
    atelier.reachSections = (tab) => {
        for (const header of tab.querySelectorAll("div.label-wrap")) {
            if (header.tabIndex !== 0) header.tabIndex = 0;
            header.setAttribute("role", "button");
            tell(header);
        }
    };

    const headerOf = (event) => event.composedPath().find((one) => one.matches && one.matches(BOXES));
    document.addEventListener("keydown", (event) => {
        const header = headerOf(event);
        if (!header || (event.key !== "Enter" && event.key !== " ")) return;
        event.preventDefault();  // a space would scroll the page
        header.click();
    });
    // Gradio opens a section, and builds what is in it, after the click.
    document.addEventListener("click", (event) => {
        const header = headerOf(event);
        const tab = atelier.find("#atelier_tab");
        if (header && tab) requestAnimationFrame(() => atelier.reachSections(tab));
    });
})(window.atelier);
