// Arriving from the search (?highlight=...): mark what was sought, and go to the first mark below the heading that the search led to.
// Sphinx's own script marks parts of words, menus included, and never runs where the theme loads its search; this one replaces it.
document.addEventListener("DOMContentLoaded", () => {
  const address = new URL(location);
  const query = address.searchParams.get("highlight");
  const article = document.querySelector("article");
  if (!query || !article) return;
  address.searchParams.delete("highlight"); // a link copied from here is the plain one
  history.replaceState(null, "", address);

  const words = query.toLowerCase().split(/[^\p{L}\p{N}@]+/u).filter((word) => word.length > 1);
  if (!words.length) return;
  const stems = words.map((word) => (word.length > 3 ? word.replace(/(?:ies|es|s)$/, "") : word) + "\\p{L}*");
  const together = stems.join("[^\\p{L}\\p{N}]+");
  const pattern = (what) => new RegExp(`(?<![\\p{L}\\p{N}])(?:${what})`, "giu");
  const skip = "script, style, svg, pre, button, .headerlink, .math, mark";

  function mark(what) {
    const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT, (node) =>
      node.parentElement.closest(skip) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
    const texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    for (const text of texts) {
      for (const match of [...text.data.matchAll(pattern(what))].reverse()) {
        const range = document.createRange();
        range.setStart(text, match.index);
        range.setEnd(text, match.index + match[0].length);
        const element = document.createElement("mark");
        element.className = "found";
        range.surroundContents(element);
      }
    }
    return article.querySelectorAll("mark.found").length;
  }
  // The words as they stand together; each for itself only where they never do.
  if (!mark(together) && words.length > 1) mark(stems.join("|"));

  const clear = () => {
    for (const element of article.querySelectorAll("mark.found")) element.replaceWith(...element.childNodes);
    article.normalize();
    button.remove();
  };
  const button = document.createElement("button");
  button.type = "button";
  button.className = "found-clear";
  button.textContent = "Hide the marks";
  button.addEventListener("click", clear);
  document.addEventListener("keydown", (event) => event.key === "Escape" && button.isConnected && clear());
  const marks = [...article.querySelectorAll("mark.found")];
  if (!marks.length) return;
  article.prepend(button);

  const goThere = () => {
    const heading = address.hash && document.getElementById(decodeURIComponent(address.hash.slice(1)));
    const below = heading ? marks.filter((m) => heading.contains(m) || heading.compareDocumentPosition(m) & Node.DOCUMENT_POSITION_FOLLOWING) : marks;
    const first = below.find((m) => m.checkVisibility()) || below[0];
    first?.closest("details:not([open])")?.setAttribute("open", "");
    if (first?.checkVisibility()) first.scrollIntoView({ block: "center", behavior: "instant" });
  };
  document.readyState === "complete" ? goThere() : addEventListener("load", () => setTimeout(goThere));
});
