"use strict";
// Draws the loss curve: a thin line for every step, a thick one for the average, and one for the validation loss.
(function (atelier) {
    const { say } = atelier;
    const SVG = "http://www.w3.org/2000/svg";
    const HEIGHT = 220, LEFT = 52, BOTTOM = 26, TOP = 10, RIGHT = 12;

    const shape = (tag, attributes, text) => {
        const made = document.createElementNS(SVG, tag);
        for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
        if (text !== undefined) made.textContent = text;
        return made;
    };
    const isNumber = (value) => typeof value === "number" && isFinite(value);

    // Round numbers between `low` and `high`, about `count` of them.
    const ticks = (low, high, count) => {
        const rough = (high - low) / count;
        const power = 10 ** Math.floor(Math.log10(rough));
        const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
        const found = [];
        for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) {
            found.push(value);
        }
        return found;
    };

    // The range that shows nearly every value; the few that jump out of it are drawn at its edge.
    const range = (values, always) => {
        const sorted = values.slice().sort((a, b) => a - b);
        const at = (part) => sorted[Math.round((sorted.length - 1) * part)];
        let low = Math.min(at(0.01), ...always), high = Math.max(at(0.99), ...always);
        if (high - low < 1e-9) { low -= Math.abs(low) / 2 + 1e-6; high += Math.abs(high) / 2 + 1e-6; }
        const margin = (high - low) * 0.06;
        return [values.every((value) => value >= 0) ? Math.max(0, low - margin) : low - margin, high + margin];
    };

    const label = (value) => {
        if (value === 0) return "0";
        const size = Math.abs(value);
        return size < 1e-3 || size >= 1e4
            ? value.toExponential(1).replace(".0e", "e") : String(Number(value.toPrecision(3)));
    };
    atelier.number = label;

    const line = (points, name) => shape("polyline", {
        points: points.filter((point) => point[1] !== null)
            .map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "),
        class: name,
    });

    // rows: [step, loss, smoothed]; validation: [step, loss]; total: the run's steps; width in pixels.
    // `onShow` is given the row under the pointer, or the one that arrow keys went to, and the validation loss at or
    // before it, and says both in words; or null when there is no row any more. Gives an <svg>.
    atelier.chart = (rows, validation, total, width, onShow) => {
        const svg = shape("svg", {
            viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, class: "atelier-chart", role: "img",
            tabindex: 0,
        });
        const losses = rows.map((row) => row[1]).filter(isNumber);
        const last = Math.max(total || 0, rows.length ? rows[rows.length - 1][0] : 0, 1);
        const means = rows.map((row) => row[2]).filter(isNumber);
        const checks = validation.map((row) => row[1]).filter(isNumber);
        svg.setAttribute("aria-label", means.length
            ? say("curve from to", { first: label(means[0]), last: label(means[means.length - 1]) })
            : say("curve start"));
        const [low, high] = losses.length ? range(losses, means.slice(-1).concat(checks)) : [0, 1];
        const right = width - RIGHT, bottom = HEIGHT - BOTTOM;
        const x = (step) => LEFT + (step / last) * (right - LEFT);
        const y = (loss) => (isNumber(loss)
            ? TOP + (1 - Math.min(1, Math.max(0, (loss - low) / (high - low)))) * (bottom - TOP) : null);
        for (const level of losses.length ? ticks(low, high, 4) : []) {
            svg.append(shape("line", { x1: LEFT, x2: right, y1: y(level), y2: y(level), class: "atelier-grid-line" }));
            svg.append(shape("text",
                { x: LEFT - 8, y: y(level) + 4, class: "atelier-axis", "text-anchor": "end" }, label(level)));
        }
        for (const step of ticks(0, last, Math.max(2, Math.min(6, Math.floor(width / 110)))).filter(Number.isInteger)) {
            const anchor = x(step) > right - 20 ? "end" : "middle";
            svg.append(shape("text",
                { x: x(step), y: HEIGHT - 8, class: "atelier-axis", "text-anchor": anchor },
                step === 0 ? say("step 0") : String(step)));
        }
        svg.append(shape("line", { x1: LEFT, x2: right, y1: bottom, y2: bottom, class: "atelier-grid-line" }));
        if (!losses.length) {
            svg.append(shape("text",
                { x: (LEFT + right) / 2, y: HEIGHT / 2, class: "atelier-axis", "text-anchor": "middle" },
                say("curve start")));
            return svg;
        }
        svg.append(line(rows.map((row) => [x(row[0]), y(row[1])]), "atelier-raw"));
        svg.append(line(rows.map((row) => [x(row[0]), y(row[2])]), "atelier-mean"));
        const newest = rows[rows.length - 1];
        if (isNumber(newest[2])) {
            svg.append(shape("circle", { cx: x(newest[0]), cy: y(newest[2]), r: 3.5, class: "atelier-dot" }));
        }
        svg.append(line(validation.map((row) => [x(row[0]), y(row[1])]), "atelier-validation"));
        for (const row of validation) {
            if (isNumber(row[1])) {
                svg.append(shape("circle", { cx: x(row[0]), cy: y(row[1]), r: 3, class: "atelier-validation-dot" }));
            }
        }
        explore(svg, rows, validation, { x, y, bottom, width, last, right }, onShow);
        return svg;
    };

    // Pointer and arrow keys show the values of a step, also when the curve was made anew meanwhile.
    let kept = null;
    const explore = (svg, rows, validation, place, onShow) => {
        const cross = shape("line", { y1: TOP, y2: place.bottom, class: "atelier-cross", visibility: "hidden" });
        const dot = shape("circle", { r: 4, class: "atelier-dot", visibility: "hidden" });
        svg.append(cross, dot);
        let at = -1;
        const show = (index) => {
            at = index;
            kept = rows[at][0];
            const row = rows[at], height = place.y(row[2]);
            cross.setAttribute("x1", place.x(row[0]));
            cross.setAttribute("x2", place.x(row[0]));
            cross.setAttribute("visibility", "visible");
            if (height !== null) {
                dot.setAttribute("cx", place.x(row[0]));
                dot.setAttribute("cy", height);
            }
            dot.setAttribute("visibility", height === null ? "hidden" : "visible");
            return onShow(row, validation.filter((check) => check[0] <= row[0]).map((check) => check[1]).pop());
        };
        const leave = () => {
            if (!svg.isConnected) return;
            kept = null;
            cross.setAttribute("visibility", "hidden");
            dot.setAttribute("visibility", "hidden");
            onShow(null);
        };
        const nearest = (step) => {
            const distance = (index) => Math.abs(rows[index][0] - step);
            return rows.reduce((best, row, index) => (distance(index) < distance(best) ? index : best), 0);
        };
        svg.addEventListener("pointermove", (event) => {
            const box = svg.getBoundingClientRect();
            const across = (event.clientX - box.left) / box.width * place.width;
            show(nearest((across - LEFT) / (place.right - LEFT) * place.last));
        });
        svg.addEventListener("pointerleave", leave);
        svg.addEventListener("blur", leave);
        // A slider's value is read out when it changes; before a key is pressed, the chart is a picture.
        svg.addEventListener("keydown", (event) => {
            const end = rows.length - 1, here = at < 0 ? rows.length : at;
            const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: end }[event.key];
            if (to === undefined) return;
            event.preventDefault();
            const told = show(Math.min(end, Math.max(0, to)));
            const value = { role: "slider", "aria-valuemin": rows[0][0], "aria-valuemax": rows[end][0],
                "aria-valuenow": rows[at][0], "aria-valuetext": told };
            for (const [name, text] of Object.entries(value)) svg.setAttribute(name, text);
        });
        if (kept !== null) show(nearest(kept));
    };
})(window.atelier);
