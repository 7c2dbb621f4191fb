// Slides: one at a time. Right, space or PageDown go on (first to a hidden answer), left or PageUp back, N shows the presenter's notes.
// Without this script all slides stand below each other, with answers and notes. Nothing is stored, nothing is asked of a network.
"use strict";
(() => {
  const slides = [...document.querySelectorAll(".slide")], bar = document.querySelector("nav");
  if (!slides.length || !bar) return;
  let at = 0;
  const answerOf = (slide) => slide.querySelector(".answer");
  const waiting = () => Boolean(answerOf(slides[at])?.hidden);

  const make = (tag, properties, ...inside) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...inside);
    return element;
  };
  const button = (text, action) => {
    const made = make("button", { type: "button", textContent: text });
    made.addEventListener("click", action);
    bar.append(made);
    return made;
  };

  // Show a slide, its answer open or not. The address names it, so that a reload or a link comes back to it.
  const show = (i, open = false) => {
    at = Math.min(Math.max(i, 0), slides.length - 1);
    slides.forEach((slide, k) => (slide.hidden = k !== at));
    const answer = answerOf(slides[at]);
    if (answer) answer.hidden = !open;
    scrollTo(0, 0);
    tell();
    if (location.hash !== `#${slides[at].id}`) location.replace(`#${slides[at].id}`);
  };
  const tell = () => {
    back.disabled = at === 0;
    on.disabled = at === slides.length - 1 && !waiting();
    on.textContent = waiting() ? "Show the answer" : "Next";
    count.textContent = `${at + 1} of ${slides.length}`;
    spoken.textContent = `${count.textContent}: ${slides[at].querySelector("h2").textContent}`;
  };
  const next = () => {
    if (!waiting()) return at < slides.length - 1 && show(at + 1);
    answerOf(slides[at]).hidden = false;
    tell();
    answerOf(slides[at]).scrollIntoView({ block: "nearest" });
  };
  const previous = () => at && show(at - 1, true);
  const notes = () => {
    const shown = document.documentElement.classList.toggle("with-notes");
    with_notes.setAttribute("aria-pressed", shown);
  };

  const back = button("Back", previous);
  const on = button("Next", next);
  const with_notes = button("Notes (N)", notes);
  with_notes.setAttribute("aria-pressed", false);
  const count = make("p", {});
  const spoken = make("p", { className: "spoken" });
  spoken.setAttribute("role", "status");
  spoken.style.cssText = "position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)";
  bar.append(count, spoken);
  document.documentElement.classList.add("scripted");

  const KEYS = {
    ArrowRight: next, PageDown: next, " ": next, ArrowLeft: previous, PageUp: previous, n: notes, N: notes,
    Home: () => show(0), End: () => show(slides.length - 1, true),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
    if (event.key === " " && event.target.closest?.("button, a")) return; // it presses what has the focus
    event.preventDefault();
    KEYS[event.key]();
  });

  let from = null;
  document.addEventListener("touchstart", ({ touches }) => (from = touches.length === 1 ? touches[0] : null), { passive: true });
  document.addEventListener("touchend", ({ changedTouches: [to] }) => {
    const [x, y] = from ? [to.clientX - from.clientX, to.clientY - from.clientY] : [0, 0];
    from = null;
    if (Math.abs(x) > 60 && Math.abs(x) > 2 * Math.abs(y)) (x < 0 ? next : previous)();
  });

  const asked = () => slides.findIndex((slide) => `#${slide.id}` === location.hash);
  addEventListener("hashchange", () => asked() >= 0 && asked() !== at && show(asked()));
  show(Math.max(asked(), 0));
})();
