// Draw the page's Mermaid diagrams, after the text, in the colours of the current theme. Jupyter Book loads this
// file on every page; Mermaid itself, which is heavy, only comes where there is a diagram.
const here = document.currentScript.src;

document.addEventListener("DOMContentLoaded", () => {
  const diagrams = [...document.querySelectorAll("pre.mermaid")].map((node) => [node, node.textContent]);
  if (!diagrams.length) return;
  const theme = () => document.documentElement.dataset.theme;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--pst-color-${name}`).trim();
  let drawn;
  const draw = async () => {
    if (drawn === theme()) return;
    drawn = theme();
    mermaid.initialize({
      startOnLoad: false,
      securityLevel: "strict",
      theme: "base",
      themeVariables: {
        darkMode: drawn === "dark",
        fontFamily: getComputedStyle(document.body).fontFamily,
        background: colour("background"),
        primaryColor: colour("surface"),
        primaryTextColor: colour("text-base"),
        primaryBorderColor: colour("primary"),
        secondaryColor: colour("surface"),
        tertiaryColor: colour("background"),
        tertiaryTextColor: colour("text-base"),
        lineColor: colour("text-muted"),
        textColor: colour("text-base"),
        edgeLabelBackground: colour("background"),
        clusterBorder: colour("border"),
      },
    });
    for (const [node, source] of diagrams) {
      node.removeAttribute("data-processed");
      node.textContent = source;
    }
    await mermaid.run({ nodes: diagrams.map(([node]) => node) });
    // A diagram too wide for the page scrolls in its box before its text becomes too small to read.
    for (const svg of document.querySelectorAll("pre.mermaid svg")) svg.style.minWidth = `${0.75 * svg.viewBox.baseVal.width}px`;
  };
  const script = document.createElement("script");
  script.src = new URL("mermaid/mermaid.min.js", here);
  script.onload = () => {
    draw();
    new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  };
  document.head.append(script);
});
