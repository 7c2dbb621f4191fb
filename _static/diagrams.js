// Diagrams are drawn when the site is built (press/diagrams.py). This opens one large, in a dialog: a click, or Enter on it.
// Without JavaScript, or on a browser without dialogs, it stays as it is in the page. A source that nobody has drawn yet
// is drawn by Mermaid, which the site then brings along.
const assets = document.currentScript.src;

document.addEventListener("DOMContentLoaded", () => {
  if (window.HTMLDialogElement) document.querySelectorAll(".diagram:has(> .drawn-diagram)").forEach(makeItOpen);
  const undrawn = [...document.querySelectorAll("pre.mermaid")].map((node) => [node, node.textContent]);
  if (undrawn.length) drawWithMermaid(undrawn);
});

function makeItOpen(diagram) {
  const drawings = [...diagram.children];
  const button = document.createElement("button");
  button.className = "diagram-open";
  button.type = "button";
  // The drawing inside keeps its own name and description for screen readers.
  button.setAttribute("aria-label", `Open the diagram large: ${drawings[0].querySelector("title").textContent}`);
  button.setAttribute("aria-describedby", drawings[0].querySelector("desc").id);
  button.append(...drawings);
  diagram.append(button);
  button.addEventListener("click", () => {
    const dialog = document.createElement("dialog");
    dialog.className = "diagram-large";
    dialog.setAttribute("aria-label", drawings[0].querySelector("title").textContent);
    const close = document.createElement("button");
    close.className = "close btn btn-sm";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    const large = drawings[0].cloneNode(true);
    large.innerHTML = large.innerHTML.replace(/( id="|url\(#)/g, "$1large-"); // an id is there once
    large.removeAttribute("aria-labelledby"); // the dialog has the name
    large.setAttribute("aria-hidden", "true");
    const box = large.viewBox.baseVal;
    const scale = Math.max(1, Math.min(1.6, (innerWidth * 0.9) / box.width, (innerHeight * 0.8) / box.height));
    large.setAttribute("width", box.width * scale);
    large.setAttribute("height", box.height * scale);
    const scroller = document.createElement("div");
    scroller.tabIndex = 0;
    scroller.append(large);
    dialog.append(close, scroller);
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  });
}

function drawWithMermaid(diagrams) {
  const theme = () => document.documentElement.dataset.theme;
  let drawn;
  const draw = async () => {
    if (drawn === theme()) return;
    drawn = theme();
    mermaid.initialize({ startOnLoad: false, securityLevel: "strict", theme: drawn === "dark" ? "dark" : "neutral" });
    for (const [node, source] of diagrams) {
      node.removeAttribute("data-processed");
      node.textContent = source;
    }
    await mermaid.run({ nodes: diagrams.map(([node]) => node) });
  };
  const script = document.createElement("script");
  script.src = new URL("mermaid/mermaid.min.js", assets);
  script.onload = () => {
    draw();
    new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  };
  document.head.append(script);
}
