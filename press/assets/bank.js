// The question bank: all questions of the book, by topic, kind, level and step; an answer shows when asked for.
"use strict";
(() => {
  const room = document.getElementById("bank"), all = window.PRACTICE?.bank ?? [];
  if (!room || !all.length) return;
  const PAGE = 20, KINDS = { "follow-up": "Follow-up", exercise: "Exercise", predict: "Predict", lab: "Lab" };
  const { make } = window.BOOK; // of page.js
  const plain = (html) => make("div", { innerHTML: html }).textContent.toLowerCase();
  const texts = all.map((entry) => plain(entry.question + entry.answer));
  const chapterOf = (entry) => window.PRACTICE.cases.find((one) => entry.topic === one.name || entry.topic.startsWith(`${one.name}_`));

  const filter = (name, label, options) => {
    const select = make("select", { id: `bank-${name}` }, make("option", { value: "", textContent: "all" }), ...options.map(([value, text]) => make("option", { value, textContent: text })));
    select.addEventListener("change", () => show());
    fields.append(make("label", { htmlFor: select.id }, label, " ", select));
    return select;
  };
  const fields = make("form", { className: "filters", aria: { role: "search", label: "Questions" } });
  fields.addEventListener("submit", (event) => event.preventDefault());
  const topic = filter("topic", "Topic", window.PRACTICE.cases.map((one) => [one.name, one.title]));
  const kind = filter("kind", "Kind", Object.entries(KINDS));
  const level = filter("level", "Level", window.PRACTICE.levels.map((name) => [name, name]));
  const step = filter("step", "Step", window.PRACTICE.steps.map((name) => [name, name]));
  const sought = make("input", { type: "text", id: "bank-words", autocomplete: "off" });
  sought.addEventListener("input", () => show());
  fields.append(make("label", { htmlFor: sought.id }, "Words ", sought));
  const count = make("p", { aria: { role: "status", live: "polite" } });
  const list = make("ol", { className: "questions" });
  const button = (text, action) => {
    const made = make("button", { type: "button", textContent: text });
    made.addEventListener("click", action);
    return made;
  };
  const draw = button("Draw one", () => {
    const found = matching();
    if (found.length) show([found[Math.floor(Math.random() * found.length)]]);
    list.querySelector("summary")?.focus();
  });
  const everything = button("Show all that match", () => show());
  const more = button("Show more", () => add());
  fields.append(make("span", { className: "buttons" }, draw, everything));

  const matching = () => {
    const words = sought.value.toLowerCase().split(/\s+/).filter(Boolean);
    return all.flatMap((entry, i) => {
      const fits = (!topic.value || chapterOf(entry)?.name === topic.value) && (!kind.value || entry.kind === kind.value) && (!level.value || entry.level === level.value) && (!step.value || entry.step === step.value);
      return fits && words.every((word) => texts[i].includes(word)) ? [i] : [];
    });
  };
  let waiting = [];
  const add = () => {
    const some = waiting.splice(0, PAGE);
    for (const i of some) {
      const entry = all[i];
      const facts = [entry.title, KINDS[entry.kind], entry.level, entry.step].filter(Boolean).join(" · ");
      const settled = make("p", {}, make("a", { href: entry.url, textContent: entry.kind === "follow-up" ? "Where it stands" : "Where it is settled" }));
      const item = make("li", {}, make("p", { className: "facts", textContent: facts }), make("div", { innerHTML: entry.question }), make("details", {}, make("summary", { textContent: "The answer" }), make("div", { innerHTML: entry.answer }), settled));
      list.append(item);
    }
    window.MathJax?.startup?.promise?.then(() => MathJax.typesetPromise([list]));
    more.hidden = !waiting.length;
  };
  const show = (chosen) => {
    const found = matching();
    waiting = chosen ?? [...found];
    count.textContent = chosen ? `One of ${found.length}, drawn at random.` : `${found.length} of ${all.length} questions.`;
    list.replaceChildren();
    add();
  };
  room.replaceChildren(fields, count, list, make("p", { className: "buttons" }, more));
  show();
  // On the way back a browser fills the filters in again, once the page is there.
  addEventListener("pageshow", ({ persisted }) => !persisted && [topic, kind, level, step, sought].some(({ value }) => value) && show());
})();
