// What a page does for its reader: folds code, covers the answer to a prediction until there is one, moves the assumption of a
// decision, shows a term's definition, keeps ticks of what was read. Jupyter Book loads this file in the head of every page.
// Without it everything can be read: folds are <details>, sweeps are tables, terms are links, nothing is covered.
"use strict";
(() => {
  const root = document.documentElement;
  const chapter = location.pathname.includes("/chapters/");

  // What is remembered stays in this browser. Where storage is full or forbidden, it lasts as long as the page.
  const kept = new Map();
  const recall = (name) => {
    if (kept.has(name)) return kept.get(name);
    try {
      return JSON.parse(localStorage.getItem(`mlsd:${name}`));
    } catch {
      return null;
    }
  };
  const remember = (name, value) => {
    kept.set(name, value);
    try {
      localStorage.setItem(`mlsd:${name}`, JSON.stringify(value));
    } catch {}
  };

  // An element from its tag, its properties and what is in it.
  const make = (tag, properties = {}, ...inside) => {
    const { data = {}, aria = {}, ...own } = properties;
    const element = Object.assign(document.createElement(tag), own);
    Object.assign(element.dataset, data);
    for (const [name, value] of Object.entries(aria)) element.setAttribute(name === "role" ? name : `aria-${name}`, value);
    element.append(...inside);
    return element;
  };
  window.BOOK = { make }; // for the scripts of single pages
  let serial = 0;
  const name = (element, prefix) => (element.id ||= `${prefix}-${++serial}`);

  // Before the first paint: what will be covered must not flash.
  root.dataset.code = recall("code") ?? "design";
  root.dataset.answers = chapter ? (recall("answers") ?? "covered") : "open";

  // ---------- switches ----------

  const switches = (article) => {
    const group = make("div", { className: "reading", aria: { role: "group", label: "How this page is shown" } });
    const title = article.querySelector("h1");
    title.after(group);
    return group;
  };

  // ---------- code ----------

  const codeSwitch = (article, group) => {
    const cells = [...article.querySelectorAll(".cell")].filter((cell) => cell.querySelector(".cell_input"));
    if (!cells.length) return;
    // Design cells get a fold too; its summary only shows when the switch says so.
    for (const input of article.querySelectorAll(".cell > .cell_input")) {
      const fold = make("details", { className: "hide above-input design", open: true }, make("summary", { textContent: "Code of the design" }));
      input.replaceWith(fold);
      fold.append(input);
    }
    const show = (what) => {
      root.dataset.code = what;
      for (const fold of article.querySelectorAll("details.above-input")) {
        fold.open = what === "all" || (what === "design" && fold.matches(".design"));
      }
    };
    show(root.dataset.code);
    const field = make("fieldset", {}, make("legend", { textContent: "Code" }));
    for (const [what, words] of [["design", "the design"], ["all", "all"], ["none", "none"]]) {
      const choice = make("input", { type: "radio", name: "code", value: what, checked: root.dataset.code === what });
      choice.addEventListener("change", () => {
        remember("code", what);
        // What stood at the top of the window stays there, however much folds above it.
        const stays = cells.find((cell) => cell.getBoundingClientRect().bottom > 0) ?? article;
        const before = stays.getBoundingClientRect().top;
        show(what);
        if (scrollY > group.offsetTop + group.offsetHeight) scrollBy({ top: stays.getBoundingClientRect().top - before, behavior: "instant" });
      });
      field.append(make("label", {}, choice, ` ${words}`));
    }
    group.append(field);
  };

  // ---------- predictions ----------

  const covers = [];
  const page = location.pathname.split("/").pop();
  const FOUND = "onbeforematch" in root ? "until-found" : ""; // hidden, but found by the browser's search

  // What gives the answer away: everything up to the next heading or the next prediction, sections below it included. Where
  // nothing is computed before that heading, the answer stands in the section that it opens.
  const until = (next) => {
    const run = [];
    for (; next; next = next.nextElementSibling) {
      if (next.matches(".predict") || (next.matches("section") && next.querySelector(".predict"))) break;
      run.push(next);
    }
    return run;
  };
  const answerOf = (box) => {
    const run = until(box.nextElementSibling);
    let section = box.parentElement;
    if (run.some((element) => element.querySelector(".cell_output, .cell_input"))) return [run];
    while (section && !section.nextElementSibling?.matches("section")) section = section.parentElement.closest("section");
    return [run, section ? until(section.nextElementSibling.querySelector("h2, h3, h4")?.nextElementSibling) : []];
  };

  const predictions = (article, group) => {
    const boxes = [...article.querySelectorAll("div.admonition.predict")];
    for (const box of boxes) {
      const runs = answerOf(box).filter((run) => run.length);
      if (runs.length) covers.push(new Cover(box, runs));
    }
    if (!covers.length) return;
    const toggle = make("input", { type: "checkbox", checked: root.dataset.answers === "covered", aria: { role: "switch" } });
    toggle.addEventListener("change", () => {
      root.dataset.answers = toggle.checked ? "covered" : "open";
      remember("answers", root.dataset.answers);
      covers.forEach((cover) => cover.update());
    });
    const again = make("button", { type: "button", textContent: "Predict anew" });
    again.addEventListener("click", () => {
      remember(`said:${page}`, {});
      covers.forEach((cover) => cover.close());
    });
    const field = make("fieldset", {}, make("legend", { textContent: "Answers" }));
    field.append(make("label", {}, toggle, " covered until I have said mine"), again);
    group.append(field);
  };

  class Cover {
    constructor(box, runs) {
      const words = box.querySelector("p:not(.admonition-title)")?.textContent ?? "";
      this.key = words.replace(/\s+/g, " ").trim().slice(0, 80);
      this.visited = false; // opened by a link or a search, for this visit only
      this.bodies = runs.map((run) => {
        const body = make("div", { className: "covered" });
        run[0].before(body);
        body.append(...run);
        body.addEventListener("beforematch", () => this.open());
        return body;
      });
      this.said = make("p", { className: "said", tabIndex: -1 });
      this.bodies.at(-1).prepend(this.said);
      this.links = this.bodies.flatMap((body) => [...body.querySelectorAll("section[id]")]).flatMap((section) => [
        ...document.querySelectorAll(`.bd-sidebar-secondary a[href="#${CSS.escape(section.id)}"]`),
      ]);
      box.append((this.form = this.ask(box)));
      this.update();
    }

    ask(box) {
      const form = make("form", { className: "commit" });
      const options = [...box.querySelectorAll(":scope > ul > li")];
      let answer;
      if (options.length) {
        const list = options[0].parentElement;
        list.classList.add("choices");
        const group = name(box, "predict");
        for (const option of options) {
          const radio = make("input", { type: "radio", name: group, value: option.textContent.trim() });
          const label = make("label", {}, radio, " ", ...option.childNodes);
          option.replaceChildren(label);
        }
        list.setAttribute("role", "radiogroup");
        for (const option of options) option.setAttribute("role", "none");
        list.setAttribute("aria-label", "Your prediction");
        form.append(list);
        answer = () => list.querySelector(":checked")?.value ?? "";
      } else {
        const text = make("textarea", { rows: 2, maxLength: 2000 });
        form.append(make("label", {}, "Your prediction", text));
        answer = () => text.value.trim();
      }
      const note = make("p", { className: "note", aria: { role: "status" } });
      const skip = make("button", { type: "button", textContent: "I don’t know, show me" });
      form.append(make("div", { className: "buttons" }, make("button", { type: "submit", textContent: "Show what happens" }), skip), note);
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        if (answer()) return this.commit(answer());
        note.textContent = "Say something first, a direction at least. Or let it be shown.";
        form.querySelector("textarea, input").focus();
      });
      skip.addEventListener("click", () => this.commit(""));
      this.clear = () => {
        form.reset();
        note.textContent = "";
      };
      return form;
    }

    get answer() {
      return (recall(`said:${page}`) ?? {})[this.key];
    }

    commit(words) {
      remember(`said:${page}`, { ...recall(`said:${page}`), [this.key]: words });
      this.update();
      this.said.focus({ preventScroll: true }); // the reader goes on with what happens
    }

    open() {
      this.visited = true;
      this.update();
    }

    close() {
      this.visited = false;
      this.clear();
      this.update();
    }

    update() {
      const committed = this.answer !== undefined;
      const open = committed || this.visited || root.dataset.answers === "open";
      for (const body of this.bodies) {
        if (open) body.removeAttribute("hidden");
        else body.setAttribute("hidden", FOUND);
      }
      this.form.hidden = open;
      for (const link of this.links) link.closest("li").hidden = !open;
      this.said.hidden = !committed;
      this.said.classList.toggle("nothing", !this.answer);
      this.said.replaceChildren(make("strong", { textContent: this.answer ? "You said: " : "What happens:" }), this.answer ?? "");
    }
  }

  // A place that is asked for is shown, whatever covers or folds it.
  const reveal = (target) => {
    let hidden = false;
    for (const cover of covers) {
      if (cover.bodies.some((body) => body.hidden && body.contains(target))) {
        cover.open();
        hidden = true;
      }
    }
    for (let fold = target?.closest("details:not([open])"); fold; fold = fold.parentElement.closest("details:not([open])")) {
      fold.open = true;
      hidden = true;
    }
    return hidden;
  };
  const toHash = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && reveal(target)) target.scrollIntoView();
  };

  // ---------- decisions ----------

  // The sweep of a decision is a table of what is chosen at each value of its assumption: a slider moves through it.
  const sweep = (details) => {
    let steps;
    try {
      steps = JSON.parse(details.dataset.steps);
    } catch {
      return;
    }
    const card = details.closest(".mlsd-decision");
    const options = card?.querySelector("table.mlsd-options");
    if (!options || !(steps.length > 1) || !("x" in steps[0])) return;
    const { what, unit = "" } = details.dataset;
    const now = Math.max(0, steps.findIndex((step) => step.now));
    const chosen = (step) => step.chosen ?? "none of these";
    const slider = make("input", { type: "range", min: 0, max: steps.length - 1, step: 1, value: now, aria: { label: what } });
    const field = make("input", { type: "text", inputMode: "decimal", autocomplete: "off", size: 8, aria: { label: `${what}${unit && `, ${unit}`}` } });
    const back = make("button", { type: "button", textContent: "as it is now" });
    const verdict = make("p", { className: "verdict", aria: { role: "status" } });
    // Marks where the chapter stands (above) and where the choice flips (below).
    const marks = make("div", { className: "marks", aria: { hidden: "true" } });
    const mark = (i, word, title) => {
      const left = `calc(${i / (steps.length - 1)} * (100% - 1rem) + 0.5rem)`;
      marks.append(make("span", { className: word, textContent: word, title, style: `left: ${left}` }));
    };
    mark(now, "now", steps[now].value);
    steps.forEach((step, i) => step.flip && mark(i, "flip", `${step.value}: ${chosen(step)}`));
    const bodies = [...options.querySelectorAll("tbody tr")];
    const numbers = [...options.querySelectorAll("thead tr > *")].map((cell) => cell.classList.contains("number"));
    const draw = () => {
      const step = steps[slider.value];
      slider.setAttribute("aria-valuetext", `${step.value}: ${chosen(step)}`);
      field.value = step.text;
      verdict.replaceChildren(
        `At ${step.value}${step.now ? ", as it is now," : ""} `,
        make("strong", { textContent: step.chosen ? `we choose ${step.chosen}` : "nothing meets the requirements" }),
        ".",
      );
      back.disabled = Boolean(step.now);
      const rows = step.rows.map(([option, ...values]) =>
        make(
          "tr",
          { className: option === step.chosen ? "chosen" : "" },
          make("th", { scope: "row", textContent: option }),
          ...values.map((value, k) => make("td", { className: numbers[k + 1] ? "number" : "", textContent: value })),
        ),
      );
      options.tBodies[0].replaceChildren(...(step.now ? bodies : rows));
    };
    slider.addEventListener("input", draw);
    back.addEventListener("click", () => {
      slider.value = now;
      draw();
      slider.focus();
    });
    field.addEventListener("change", () => {
      const wanted = Number.parseFloat(field.value.replace(/[^\d.eE+\-−]/g, "").replace("−", "-"));
      if (Number.isFinite(wanted)) {
        const far = steps.map((step) => Math.abs(step.x - wanted));
        slider.value = far.indexOf(Math.min(...far));
      }
      draw();
    });
    const panel = make(
      "div",
      { className: "mlsd-move", aria: { role: "group", label: `Move the assumption: ${what}` } },
      make("p", {}, make("strong", { textContent: "Move the assumption: " }), what),
      make("div", { className: "track" }, slider, marks),
      make("span", { className: "value" }, field, unit && ` ${unit}`),
      back,
      verdict,
    );
    options.before(panel);
    details.querySelector("summary").textContent = "The same as a table";
    draw();
  };

  // ---------- terms of the glossary ----------

  const terms = (article) => {
    const links = article.querySelectorAll("a.term[data-definition]");
    if (!links.length) return;
    const box = make("div", { id: "definition", className: "definition", hidden: true, aria: { role: "tooltip" } });
    document.body.append(box);
    let shown = null;
    let leaving;
    const hide = () => {
      clearTimeout(leaving);
      shown?.removeAttribute("aria-describedby");
      shown = null;
      box.hidden = true;
    };
    const show = (link) => {
      hide();
      shown = link;
      box.textContent = link.dataset.definition;
      box.hidden = false;
      link.setAttribute("aria-describedby", box.id);
      const at = link.getClientRects()[0];
      const left = Math.min(Math.max(8, at.left), root.clientWidth - box.offsetWidth - 8);
      const below = at.bottom + box.offsetHeight + 12 < innerHeight;
      box.style.left = `${left + scrollX}px`;
      box.style.top = `${(below ? at.bottom + 4 : at.top - box.offsetHeight - 4) + scrollY}px`;
    };
    const later = () => {
      clearTimeout(leaving);
      leaving = setTimeout(hide, 200); // time to move onto the box, which stays then
    };
    for (const link of links) {
      link.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show(link));
      link.addEventListener("pointerleave", later);
      link.addEventListener("focus", () => show(link));
      link.addEventListener("blur", hide);
      // A finger cannot hover: its first tap shows, its second follows.
      link.addEventListener("pointerdown", (event) => (link.tapped = event.pointerType !== "mouse" && shown !== link));
      link.addEventListener("click", (event) => {
        if (link.tapped) event.preventDefault();
        if (link.tapped) show(link);
        link.tapped = false;
      });
    }
    box.addEventListener("pointerenter", () => clearTimeout(leaving));
    box.addEventListener("pointerleave", later);
    document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  };

  // ---------- what was read ----------

  const pathOf = (url) => new URL(url, location).pathname.replace(new URL(root.dataset.content_root ?? "./", location).pathname, "");
  const tick = (link, read) => {
    link.querySelector(".tick")?.remove();
    if (read) link.append(make("span", { className: "tick", textContent: " ✓", aria: { role: "img", label: "read" } }));
  };
  const showRead = () => {
    const read = recall("read") ?? {};
    for (const link of document.querySelectorAll(".bd-sidebar-primary .bd-links a.internal, .chapter-card a[href], .reading-plan a[href]")) {
      const path = pathOf(link.getAttribute("href") === "#" ? location.pathname : link.href);
      if (path.startsWith("chapters/")) tick(link, read[path]?.all);
    }
    for (const link of document.querySelectorAll('.bd-sidebar-secondary a[href^="#"]')) {
      tick(link, read[pathOf(location.pathname)]?.[link.hash.slice(1)]);
    }
  };
  const reading = (article) => {
    const path = pathOf(location.pathname);
    const sections = [...article.querySelectorAll("section > section[id]")].filter((s) => !s.parentElement.parentElement.closest("section"));
    if (!sections.length) return;
    const set = (id, value) => {
      const read = recall("read") ?? {};
      const here = { ...read[path], [id]: value };
      if (id !== "all" && sections.every((section) => here[section.id])) here.all = true;
      remember("read", { ...read, [path]: here });
      box.checked = Boolean(here.all);
      showRead();
    };
    const box = make("input", { type: "checkbox", checked: Boolean((recall("read") ?? {})[path]?.all) });
    box.addEventListener("change", () => set("all", box.checked));
    article.append(make("p", { className: "read" }, make("label", {}, box, " I have read this page")));
    // A section is read when its end was in the window for a second, and nothing in it is still covered.
    const waiting = new Map();
    const watch = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        clearTimeout(waiting.get(target));
        if (!isIntersecting) continue;
        const section = target.parentElement;
        const done = () => {
          if (section.querySelector(".covered[hidden]")) waiting.set(target, setTimeout(done, 1000));
          else set(section.id, true);
        };
        waiting.set(target, setTimeout(done, 1000));
      }
    });
    for (const section of sections) {
      section.append(make("span", { className: "end" }));
      watch.observe(section.lastElementChild);
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    const article = document.querySelector("article.bd-article");
    if (article) {
      if (chapter && article.querySelector(".cell")) {
        const group = switches(article);
        codeSwitch(article, group);
        predictions(article, group);
        reading(article);
      }
      article.querySelectorAll("details.mlsd-sweep[data-steps]").forEach(sweep);
      terms(article);
    }
    root.dataset.ready = "";
    showRead();
    toHash();
    addEventListener("hashchange", toHash);
    document.addEventListener("click", (event) => event.target.closest?.('a[href^="#"]')?.hash === location.hash && toHash());
    // Sphinx marks the words of a search when the page is loaded.
    addEventListener("load", () => document.querySelectorAll(".covered[hidden] :is(.highlighted, mark)").forEach(reveal));
  });
})();
