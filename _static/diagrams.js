// Draw the page's Mermaid diagrams, in the colours of the current theme, after the text.
(() => {
  const here = document.currentScript.src;
  const sources = [...document.querySelectorAll("pre.mermaid")].map((node) => [node, node.textContent]);
  const draw = async () => {
    const dark = document.documentElement.dataset.theme === "dark";
    mermaid.initialize({ startOnLoad: false, theme: dark ? "dark" : "neutral", securityLevel: "strict" });
    for (const [node, source] of sources) {
      node.removeAttribute("data-processed");
      node.textContent = source;
    }
    await mermaid.run({ nodes: sources.map(([node]) => node) });
  };
  const script = document.createElement("script");
  script.src = new URL("mermaid/mermaid.min.js", here);
  script.onload = () => {
    draw();
    let theme = document.documentElement.dataset.theme;
    new MutationObserver(() => {
      if (document.documentElement.dataset.theme !== theme) {
        theme = document.documentElement.dataset.theme;
        draw();
      }
    }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  };
  document.head.append(script);
})();
