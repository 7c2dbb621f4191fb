// The search page: rank the passages of the book for the words in the address (?q=), best first, and show each where it stands.
// Words match from their beginning ("calibrat" finds calibration, "rag" does not find average), plurals match singulars.
(() => {
  const PASSAGES = window.PASSAGES || [];
  const TECHNIQUES = window.TECHNIQUES || {}; // of each chapter, by its address: what its front names
  const fold = (text) => text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "").replace(/[-\u2010-\u2015\u2212]/g, " ");
  const stem = (word) => (word.length > 3 ? word.replace(/(?:ies|es|s)$/, "") : word);
  const terms = (query) => fold(query).split(/[^\p{L}\p{N}@]+/u).filter(Boolean);
  const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const start = (word) => new RegExp(`(?<![\\p{L}\\p{N}])${escape(stem(word))}`, "gu");
  const count = (text, pattern) => (text.match(pattern) || []).length;

  // The score of a passage: where all words stand together counts most, in a title more than in the text.
  function rank(query) {
    const sought = terms(query);
    if (!sought.length) return [];
    const patterns = sought.map(start);
    const phrase = new RegExp(`(?<![\\p{L}\\p{N}])${sought.map((word) => escape(stem(word)) + "\\p{L}*").join("[^\\p{L}\\p{N}]+")}`, "gu");
    const scored = [];
    for (const [url, page, anchor, title, text] of PASSAGES) {
      const inTitle = fold(title), inText = fold(text);
      const found = patterns.filter((p) => count(inTitle, p) || count(inText, p)).length;
      if (!found) continue;
      const density = patterns.reduce((sum, p) => sum + Math.min(count(inText, p), 5), 0) / sought.length;
      const score =
        100 * (found / sought.length - 1) + // a missing word costs more than anything else can bring
        20 * (count(inTitle, phrase) ? 1 : 0) +
        8 * (patterns.filter((p) => count(inTitle, p)).length / sought.length) +
        (sought.length > 1 ? 4 * Math.min(count(inText, phrase), 4) : 0) +
        density;
      scored.push({ url, page, anchor, title, text, score, whole: found === sought.length });
    }
    const whole = scored.filter((entry) => entry.whole);
    const ranked = (whole.length ? whole : scored).sort((a, b) => b.score - a.score);
    // Chapters whose front names what is sought come first, each with its best passage.
    const asked = sought.join(" ");
    const teaches = (url) => (TECHNIQUES[url] || []).some((technique) => terms(technique).join(" ") === asked);
    const taught = ranked.filter((entry, i) => teaches(entry.url) && ranked.findIndex((other) => other.url === entry.url) === i);
    return [...taught, ...ranked.filter((entry) => !taught.includes(entry))].slice(0, 30);
  }

  // Some words around the first place where what is sought stands.
  function excerpt(text, sought) {
    const folded = fold(text).length === text.length ? fold(text) : text.toLowerCase();
    const places = sought.map((word) => folded.search(start(word))).filter((at) => at >= 0);
    const at = places.length ? Math.max(0, Math.min(...places) - 90) : 0;
    const from = at ? text.indexOf(" ", at) + 1 : 0;
    const to = text.length > from + 260 ? text.lastIndexOf(" ", from + 260) : text.length;
    return (from ? "… " : "") + text.slice(from, to) + (to < text.length ? " …" : "");
  }

  // Append text to an element, what is sought in <mark>.
  function marked(element, text, sought) {
    const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(?:${sought.map((word) => escape(stem(word)) + "\\p{L}*").join("|")})`, "giu");
    let end = 0;
    for (const match of text.matchAll(pattern)) {
      element.append(text.slice(end, match.index));
      element.appendChild(document.createElement("mark")).textContent = match[0];
      end = match.index + match[0].length;
    }
    element.append(text.slice(end));
    return element;
  }

  const query = new URLSearchParams(location.search).get("q") || "";
  for (const input of document.querySelectorAll("input[name=q]")) input.value = query;
  if (!query.trim()) return;
  const results = rank(query);
  const out = document.getElementById("search-results");
  const told = out.appendChild(document.createElement("p"));
  told.textContent = results.length
    ? `${results.length} passage${results.length > 1 ? "s" : ""} for “${query}”, best first.`
    : `Nothing in the book has “${query}”. Try one word of it, or another name.`;
  const list = out.appendChild(document.createElement("ol"));
  list.className = "passages";
  for (const { url, page, anchor, title, text } of results) {
    const item = list.appendChild(document.createElement("li"));
    const link = item.appendChild(document.createElement("a"));
    link.href = `${url}?highlight=${encodeURIComponent(query)}${anchor && `#${anchor}`}`;
    marked(link, title, terms(query));
    if (title !== page) item.appendChild(document.createElement("span")).textContent = page;
    marked(item.appendChild(document.createElement("p")), excerpt(text, terms(query)), terms(query));
  }
})();
