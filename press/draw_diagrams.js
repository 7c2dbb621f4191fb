// Run by press/diagrams.py in Chromium, beside Mermaid: lay a source out and give back the picture alone, as compact SVG.
// Colours are read off the picture as it is drawn, and written down as what they stand for: the site's style has them as
// variables of the theme. A colour that stands for nothing is an error, and not a guess.
// FONT, FONT_SIZE, GOOD_TEXT, WIDE, NARROW and SLIDE come from there.
window.ROLES = {
    "#fefefe": "paper", "#f1f2f3": "box", "#0a72b2": "rim", "#212223": "ink", "#616263": "line", "#f8f9fa": "group", "#c1c2c3": "edge",
};
const hex = (colour) => "#" + colour.match(/[\d.]+/g).slice(0, 3).map((n) => (+n).toString(16).padStart(2, "0")).join("");
const none = (colour) => colour === "none" || /^rgba\(.*, 0\)$/.test(colour);
const short = (text) => text.replace(/-?\d+\.\d+(e-?\d+)?/g, (n) => String(Math.round(n * 10) / 10));
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

mermaid.initialize({
    startOnLoad: false, securityLevel: "strict", theme: "base", htmlLabels: false,
    themeVariables: {
        fontFamily: FONT, fontSize: FONT_SIZE + "px", background: "#fefefe", mainBkg: "#f1f2f3", primaryColor: "#f1f2f3",
        primaryTextColor: "#212223", primaryBorderColor: "#0a72b2", nodeBorder: "#0a72b2", secondaryColor: "#f1f2f3",
        tertiaryColor: "#f8f9fa", tertiaryTextColor: "#212223", clusterBkg: "#f8f9fa", clusterBorder: "#c1c2c3", lineColor: "#616263",
        arrowheadColor: "#616263", textColor: "#212223", titleColor: "#212223", nodeTextColor: "#212223", edgeLabelBackground: "#fefefe",
    },
});

function paint(element) {
    const style = getComputedStyle(element), classes = [];
    let attributes = "";
    for (const [kind, prefix] of [["fill", "f"], ["stroke", "s"]]) {
        const colour = style[kind];
        if (none(colour) || (kind === "stroke" && parseFloat(style.strokeWidth) === 0)) { attributes += ` ${kind}="none"`; continue; }
        const role = ROLES[hex(colour)];
        if (!role) throw new Error(`no role for ${kind} ${colour} of ${element.outerHTML.slice(0, 200)}`);
        classes.push(`${prefix}-${role}`);
        attributes += ` ${kind}="${hex(colour)}"`;
    }
    if (style.strokeDasharray !== "none" && !/^(0(px)?|1(px)?, 0(px)?)$/.test(style.strokeDasharray)) {
        attributes += ` stroke-dasharray="${style.strokeDasharray.replace(/px/g, "")}"`;
    }
    const width = parseFloat(style.strokeWidth);
    if (!none(style.stroke) && width !== 1) attributes += ` stroke-width="${Math.min(width, 2)}"`;
    return (classes.length ? ` class="${classes.join(" ")}"` : "") + attributes;
}

const GEOMETRY = ["d", "x", "y", "width", "height", "rx", "ry", "r", "cx", "cy", "points", "x1", "x2", "y1", "y2", "transform"];
function shape(element, used) {
    let text = `<${element.tagName}`;
    for (const name of GEOMETRY) {
        const value = element.getAttribute(name);
        if (value && !(name === "transform" && /^translate\(0(, ?0)?\)$/.test(value))) text += ` ${name}="${short(value)}"`;
    }
    for (const end of ["marker-start", "marker-end"]) {
        const id = /#([^)"']+)/.exec(element.getAttribute(end) || "");
        if (id) { used.add(id[1]); text += ` ${end}="url(#${id[1]})"`; }
    }
    return `${text}${paint(element)}/>`;
}

function label(element) {
    const style = getComputedStyle(element);
    let rows = [...element.querySelectorAll(".text-outer-tspan")];
    if (!rows.length) rows = [element];
    let out = "";
    for (const row of rows) {
        const text = row.textContent.replace(/\s+/g, " ").trim();
        if (!text) continue;
        const box = row.getExtentOfChar(0), number = row.getNumberOfChars();
        const end = row.getEndPositionOfChar(number - 1), start = row.getStartPositionOfChar(0);
        out += `<text x="${Math.round((start.x + end.x) * 5) / 10}" y="${Math.round(start.y * 10) / 10}"`
            + (parseInt(style.fontWeight) > 500 ? ' font-weight="600"' : "") + `>${escaped(text)}</text>`;
    }
    const transform = element.getAttribute("transform");
    return transform && out && !/^translate\(0(, ?0)?\)$/.test(transform) ? `<g transform="${short(transform)}">${out}</g>` : out;
}

function inner(element, used) {
    if (!(element instanceof SVGGraphicsElement) || ["defs", "foreignObject"].includes(element.tagName)) return "";
    if (getComputedStyle(element).display === "none") return "";
    if (element.tagName === "text") return label(element);
    if (element.tagName === "g" || element.tagName === "svg" || element.tagName === "a") {
        const text = [...element.children].map((child) => inner(child, used)).join("");
        if (!text || element.tagName === "svg") return text;
        const transform = element.getAttribute("transform");
        return transform && !/^translate\(0(, ?0)?\)$/.test(transform) ? `<g transform="${short(transform)}">${text}</g>` : text;
    }
    const box = element.getBBox();
    if (!box.width && !box.height) return "";
    return shape(element, used);
}

function compact(svg, name) {
    const used = new Set(), ids = {};
    let text = inner(svg, used), markers = "";
    for (const id of used) {
        const marker = svg.querySelector(`marker[id="${id}"]`);
        ids[id] = ids[id] || `d-${name}-${Object.keys(ids).length + 1}`;
        const attributes = ["viewBox", "refX", "refY", "markerUnits", "markerWidth", "markerHeight", "orient"]
            .filter((a) => marker.getAttribute(a)).map((a) => ` ${a}="${marker.getAttribute(a)}"`).join("");
        markers += `<marker id="${ids[id]}"${attributes}>${[...marker.children].map((c) => shape(c, new Set())).join("")}</marker>`;
    }
    for (const [id, short] of Object.entries(ids)) text = text.replaceAll(`url(#${id})`, `url(#${short})`);
    return (markers ? `<defs>${markers}</defs>` : "") + text;
}

async function layout(source, direction, wrap, rankSpacing) {
    const turned = source.replace(/^(\s*(?:flowchart|graph)\s+)(TB|TD|LR|RL|BT)\b/m, (all, start) => start + direction);
    const subGraphTitleMargin = { top: 3, bottom: 14 };
    const flowchart = { wrappingWidth: wrap, nodeSpacing: 26, rankSpacing, padding: 10, subGraphTitleMargin, htmlLabels: false };
    const settings = JSON.stringify({ flowchart });
    const { svg } = await mermaid.render("drawing", `%%{init: ${settings}}%%\n${turned}`);
    const place = document.getElementById("place");
    place.innerHTML = svg;
    const element = place.querySelector("svg");
    element.style.maxWidth = "none";
    element.removeAttribute("width");
    const box = element.querySelector("g").getBBox();
    return { element, x: box.x - 4, y: box.y - 4, width: box.width + 8, height: box.height + 8 };
}

// How many labels of edges lie on one another, or on a box.
function collisions(svg) {
    const place = (e) => e.getBoundingClientRect();
    const labels = [...svg.querySelectorAll("g.edgeLabel")].filter((e) => e.textContent.trim()).map(place);
    const boxes = [...svg.querySelectorAll("g.node")].map(place);
    const meet = (a, b) => a.left < b.right - 2 && b.left < a.right - 2 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
    let found = 0;
    labels.forEach((label, i) => { found += [...labels.slice(i + 1), ...boxes].filter((other) => meet(label, other)).length; });
    return found;
}

// How many words a narrow label has torn apart.
function torn(svg, source) {
    const words = (text) => text.split(/[\s"'|[\](){}<>/]+/).filter(Boolean);
    const whole = new Set(words(source.replace(/<br ?\/?>/g, " ")));
    return [...svg.querySelectorAll("tspan.text-outer-tspan")].flatMap((row) => words(row.textContent)).filter((word) => !whole.has(word)).length;
}

// Every edge as a sentence, for those who cannot see it.
async function words(source) {
    const { db } = await mermaid.mermaidAPI.getDiagramFromText(source);
    if (!db.getVertices || !db.getEdges) return "";
    const clean = (text) => String(text || "").replace(/<br ?\/?>/g, " ").replace(/\s+/g, " ").trim();
    const vertices = db.getVertices(), get = (id) => (vertices.get ? vertices.get(id) : vertices[id]);
    const groups = new Map((db.getSubGraphs ? db.getSubGraphs() : []).map((g) => [g.id, g.title]));
    const named = (id) => clean(get(id)?.text || groups.get(id) || id);
    const from = new Map();
    for (const edge of db.getEdges()) {
        const start = named(edge.start), text = clean(edge.text), end = named(edge.end);
        from.set(start, [...(from.get(start) || []), text ? `${end} (${text})` : end]);
    }
    return [...from].map(([start, ends]) => `${start} → ${ends.join("; ")}`).join(". ") + ".";
}

// largest: how far a drawing may be enlarged where there is room; leastText: below which it rather grows than shrinks.
async function best(source, name, room, wraps, largest = 1, leastText = GOOD_TEXT, gaps = [34]) {
    const own = (/^\s*(?:flowchart|graph)\s+(TB|TD|LR|RL|BT)\b/m.exec(source) || [])[1];
    const directions = own ? [own, own === "LR" || own === "RL" ? "TB" : "LR"] : ["TB"];
    let kept = null;
    for (const direction of directions) {
        for (const [wrap, gap] of wraps.flatMap((wrap) => gaps.map((gap) => [wrap, gap]))) {
            const { element, width, height } = await layout(source, direction, wrap, gap);
            const scale = Math.min(largest, room[0] / width, Math.max(room[1] / height, leastText / FONT_SIZE));
            // Larger text, no label on another, no word torn apart, not higher than a screen, the author's direction, the smaller picture.
            const tooHigh = Math.max(0, height * scale - room[1]) / (2 * room[1]);
            const score = Math.round(scale * FONT_SIZE) - 4 * tooHigh - 2 * collisions(element) - 10 * torn(element, source)
                - (direction === own ? 0 : 0.9) - (width * height) / 4e6;
            if (!kept || score > kept.score) kept = { score, scale, direction, wrap, gap };
        }
    }
    const { element, x, y, width, height } = await layout(source, kept.direction, kept.wrap, kept.gap);
    return { scale: kept.scale, width, height, body: compact(element, name), x, y };
}

window.drawn = async (source, name, isWhiteboard) => {
    const wide = await best(source, name, WIDE, [200, 150, 110]);
    const fits = Math.min(1, NARROW[0] / wide.width) * FONT_SIZE >= GOOD_TEXT;
    const phone = fits ? null : await best(source, name + "-phone", NARROW, [160, 120, 90]);
    // A slide does not scroll, so that there nothing is kept readable by being higher.
    const slide = isWhiteboard ? await best(source, name + "-slide", SLIDE, [240, 200, 160, 130, 110, 100, 90, 82, 75], 2, 0, [34, 24, 18]) : null;
    return { wide, phone, slide, words: await words(source) };
};
