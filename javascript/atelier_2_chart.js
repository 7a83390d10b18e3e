"use strict";
// The loss as a curve: every value faint, a running mean on top, the validation loss beside it.
(function (atelier) {
    const SVG = "http://www.w3.org/2000/svg";
    const WIDTH = 600, HEIGHT = 180, LEFT = 48, BOTTOM = 22, TOP = 8, RIGHT = 8;

    const shape = (tag, attributes, text) => {
        const made = document.createElementNS(SVG, tag);
        for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
        if (text !== undefined) made.textContent = text;
        return made;
    };

    // An exponential mean with its start corrected, over about a twentieth of the run.
    atelier.smooth = (values) => {
        const keep = 1 - 1 / Math.max(5, Math.min(100, values.length / 20));
        let mean = 0, weight = 0;
        return values.map((value) => {
            if (value === null) return weight ? mean / weight : null;
            mean = keep * mean + (1 - keep) * value;
            weight = keep * weight + (1 - keep);
            return mean / weight;
        });
    };

    // At most `count` points, evenly chosen, the last one always among them.
    const thin = (points, count) => {
        if (points.length <= count) return points;
        const stride = points.length / count;
        const chosen = [];
        for (let index = 0; index < count; index += 1) chosen.push(points[Math.floor(index * stride)]);
        chosen.push(points[points.length - 1]);
        return chosen;
    };

    const short = (value) => (value === 0 ? "0" : value >= 0.01 ? value.toFixed(3) : value.toExponential(1));

    // rows: [step, loss, rates]; total: the run's steps. Gives an <svg>.
    atelier.chart = (rows, total, onHover) => {
        const svg = shape("svg", {
            viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "atelier-chart", role: "img", "aria-label": "Loss by step",
        });
        const finite = rows.map((row) => row[1]).filter((value) => value !== null);
        if (!finite.length) {
            svg.append(shape("text", { x: WIDTH / 2, y: HEIGHT / 2, class: "atelier-axis", "text-anchor": "middle" },
                "The curve begins with the first step."));
            return svg;
        }
        const sorted = [...finite].sort((a, b) => a - b);
        const top = Math.max(sorted[Math.floor((sorted.length - 1) * 0.98)] * 1.15, 1e-9);
        const last = Math.max(total || 0, rows[rows.length - 1][0], 1);
        const x = (step) => LEFT + (step / last) * (WIDTH - LEFT - RIGHT);
        const y = (loss) => TOP + (1 - Math.min(loss / top, 1)) * (HEIGHT - TOP - BOTTOM);
        for (const part of [0, 0.5, 1]) {
            const level = top * part;
            svg.append(shape("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(level), y2: y(level), class: "atelier-grid" }));
            svg.append(shape("text", { x: LEFT - 6, y: y(level) + 4, class: "atelier-axis", "text-anchor": "end" }, short(level)));
        }
        svg.append(shape("text", { x: LEFT, y: HEIGHT - 6, class: "atelier-axis" }, "step 0"));
        svg.append(shape("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, class: "atelier-axis", "text-anchor": "end" }, String(last)));
        const means = atelier.smooth(rows.map((row) => row[1]));
        const line = (points, name) => svg.append(shape("polyline", {
            points: thin(points.filter((point) => point[1] !== null), 800).map(([s, v]) => `${x(s).toFixed(1)},${y(v).toFixed(1)}`).join(" "),
            class: name,
        }));
        line(rows.map((row) => [row[0], row[1]]), "atelier-raw");
        line(rows.map((row, index) => [row[0], means[index]]), "atelier-mean");
        if (onHover) {
            svg.addEventListener("mousemove", (event) => {
                const box = svg.getBoundingClientRect();
                const step = ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * last;
                let nearest = 0;
                rows.forEach((row, index) => { if (Math.abs(row[0] - step) < Math.abs(rows[nearest][0] - step)) nearest = index; });
                onHover(rows[nearest], means[nearest]);
            });
            svg.addEventListener("mouseleave", () => onHover(null, null));
        }
        return svg;
    };
})(window.atelier);
