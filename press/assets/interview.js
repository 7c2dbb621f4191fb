// The mock interview: a prompt, a clock, an interviewer who answers only what is asked, a requirement that changes, a rubric.
// Its matter is window.PRACTICE, made from the chapters. What the reader does stays in this browser, and can be saved as a file.
"use strict";
(() => {
  const PRACTICE = window.PRACTICE || { cases: [], minutes: [], levels: [] };
  const room = document.getElementById("interview");
  if (!room || !PRACTICE.cases.length) return;
  const KEY = "mlsd:interview", VERSION = 1, LENGTH = PRACTICE.minutes.reduce((sum, [, m]) => sum + m, 0);
  const DONT_KNOW = "I don't know. Assume something, and say it aloud.";
  const LEVEL_RULE = "Mid: two thirds of the mid signals. Senior: mid, and half of the senior ones. Staff: senior, and half of the staff ones.";

  const { make } = window.BOOK; // of page.js
  const markup = (tag, html, className = "") => make(tag, { innerHTML: html, className });
  const button = (text, action, kind = "button") => {
    const made = make("button", { type: kind, textContent: text });
    if (action) made.addEventListener("click", action);
    return made;
  };
  const formulas = (element) => window.MathJax?.startup?.promise?.then(() => MathJax.typesetPromise([element]));

  // ---------- state ----------

  const blank = () => ({ version: VERSION, phase: "choose", elapsed: 0, running: false, notes: {}, asked: [], ticks: {}, opened: {} });
  const fault = (found) => {
    if (typeof found !== "object" || found === null) return "it holds no interview";
    if (found.version !== VERSION) return `it has version ${found.version}, and this page reads version ${VERSION}`;
    if (found.phase !== "choose" && !PRACTICE.cases.some((one) => one.name === found.case)) return `it is about ${found.case}, which is not in this book`;
    if (!["choose", "talk", "grade"].includes(found.phase) || !(found.elapsed >= 0) || !Array.isArray(found.asked)) return "parts of it are missing";
    return "";
  };
  let message = "", keeps = true, state = blank();
  const save = () => {
    try {
      localStorage.setItem(KEY, JSON.stringify(state));
      keeps = true;
    } catch {
      if (keeps) tell("This browser keeps nothing (its storage is full or forbidden). Save the interview as a file before you leave.");
      keeps = false;
    }
  };
  const load = () => {
    let text = null;
    try {
      text = localStorage.getItem(KEY);
      if (text === null) return;
      const found = JSON.parse(text), wrong = fault(found);
      if (wrong) throw new Error(wrong);
      state = { ...blank(), ...found, running: false };
    } catch (error) {
      if (text === null) return; // no storage: `save` will say so
      try {
        localStorage.setItem(`${KEY}:unread`, text);
      } catch {}
      message = `The interview that this browser kept could not be read (${error.message}). It was put aside; you begin anew.`;
    }
  };
  const current = () => PRACTICE.cases.find((one) => one.name === state.case);

  const live = make("p", { className: "practice-message", aria: { role: "status", live: "polite" } });
  const tell = (text) => (live.textContent = text);
  const body = make("div");

  // ---------- the clock ----------

  const shown = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  let last = 0, slept = 0, onTick = () => {};
  const stepNow = () => {
    let end = 0;
    for (const [i, [, minutes]] of PRACTICE.minutes.entries()) {
      end += minutes;
      if (state.elapsed < 60 * end) return i;
    }
    return PRACTICE.minutes.length;
  };
  setInterval(() => {
    const now = Date.now(), gap = (now - last) / 1000;
    last = now;
    if (!state.running) return;
    if (gap > 5) slept += gap; // the machine slept, or the page was put to sleep: that time is not counted unless the reader wants it
    else state.elapsed += gap;
    onTick();
    if (Math.floor(state.elapsed) % 5 === 0) save();
  }, 1000);
  addEventListener("pagehide", save);

  // ---------- what the interviewer knows ----------

  const STOP = new Set("a about an and are as at be but by can could do does for from has have how i if in is it its long may me must my not of on or our out so than that the their them then there these they this to us we what when where which who why will with would you your many much people person user users member members reader readers second".split(" "));
  const KINDS = ["latency fast quick slow ms millisecond respond response speed", "scale traffic request volume visit size large qps million billion", "success goal objective metric measure value matter optimi optimis optimiz purpose", "fresh stale old age often update new change recent", "label delay late truth outcome feedback wait", "privacy data keep retention delete store kept", "cost money budget price worth cent dollar expensive", "guardrail worse harm risk mistake error wrong", "down fail failure fallback outage broken"].map((words) => words.split(" "));
  const stem = (word) => (word.length > 3 ? word.replace(/(?:ies|es|s|ed|ing|e)$/, "") : word);
  const tokens = (text) => {
    const found = text.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter((word) => word && !STOP.has(word)).map(stem);
    return new Set(found.flatMap((word) => [word, ...KINDS.flatMap((kind, i) => (kind.map(stem).includes(word) ? [`kind ${i}`] : []))]));
  };
  const closest = (query, texts) => {
    const asked = tokens(query), known = texts.map(tokens), spread = new Map();
    for (const words of known) for (const word of words) spread.set(word, (spread.get(word) ?? 0) + 1);
    const scores = known.map((words) => [...asked].reduce((sum, word) => sum + (words.has(word) ? 1 / spread.get(word) : 0), 0));
    const best = scores.indexOf(Math.max(...scores));
    return scores[best] >= 0.5 ? best : -1;
  };
  const answer = (query) => {
    const { talk, pinned } = current();
    const i = closest(query, [...talk.map(([question, said]) => `${question} ${question} ${said}`), ...pinned]);
    if (i < 0) return { said: DONT_KNOW };
    return i < talk.length ? { said: talk[i][1], talk: i } : { said: pinned[i - talk.length] };
  };

  // ---------- phases ----------

  const phase = (name) => {
    state.phase = name;
    tell("");
    state.running = name === "talk";
    last = Date.now();
    save();
    draw();
    body.querySelector("h2")?.focus();
  };

  const choose = () => {
    const cases = make("select", { id: "interview-case" }, ...PRACTICE.cases.map((one) => make("option", { value: one.name, textContent: one.title })));
    const level = make("select", { id: "interview-level" }, ...PRACTICE.levels.map((name) => make("option", { value: name, textContent: name, selected: name === "senior" })));
    const begin = (name) => {
      const one = PRACTICE.cases.find((each) => each.name === name);
      const change = Math.floor(Math.random() * one.changes.length);
      state = { ...blank(), case: name, level: level.value, change, changeAt: 60 * (20 + Math.floor(Math.random() * 8)) };
      phase("talk");
    };
    body.replaceChildren(
      make("h2", { textContent: "Choose a case", tabIndex: -1 }),
      make("p", {}, make("label", { htmlFor: cases.id, textContent: "Case " }), cases, " ", make("label", { htmlFor: level.id, textContent: "Level " }), level),
      make("p", { className: "buttons" }, button("Begin", () => begin(cases.value)), button("Draw a case for me", () => begin(PRACTICE.cases[Math.floor(Math.random() * PRACTICE.cases.length)].name)), importer()),
    );
  };

  const talk = () => {
    const one = current();
    const clock = make("span", { className: "time", aria: { role: "timer", live: "off" } });
    const sleepy = make("p", { className: "slept", hidden: true });
    const pause = button("", () => {
      state.running = !state.running;
      last = Date.now();
      save();
      tick();
    });
    const steps = make("ol", { className: "steps" });
    const notes = PRACTICE.minutes.map(([name, minutes], i) => {
      const area = make("textarea", { rows: 3, value: state.notes[name] ?? "", id: `notes-${i}` });
      area.addEventListener("input", () => {
        state.notes[name] = area.value;
        save();
      });
      const item = make("li", {}, make("label", { htmlFor: area.id, textContent: `${name.replace(/^\d+ /, "")}, ${minutes} min` }), area);
      steps.append(item);
      return item;
    });
    const question = make("input", { type: "text", id: "ask", autocomplete: "off" });
    const heard = make("ol", { className: "heard" });
    const hear = ({ q, said }) => heard.append(make("li", {}, make("strong", { textContent: `${q} ` }), said));
    state.asked.forEach(hear);
    const ask = make("form", { className: "ask" }, make("label", { htmlFor: "ask", textContent: "Ask the interviewer " }), question, button("Ask", null, "submit"));
    ask.addEventListener("submit", (event) => {
      event.preventDefault();
      const q = question.value.trim();
      if (!q) return;
      const entry = { q, ...answer(q), at: Math.floor(state.elapsed) };
      state.asked.push(entry);
      hear(entry);
      question.value = "";
      save();
    });
    const changed = make("section", { className: "changed", aria: { live: "polite" } });
    const change = one.changes[state.change];
    const showChange = () => {
      if (!change || changed.childElementCount) return;
      state.changed = true;
      const reaction = make("textarea", { rows: 3, id: "reaction", value: state.reaction ?? "" });
      reaction.addEventListener("input", () => {
        state.reaction = reaction.value;
        save();
      });
      const measured = make("p", { hidden: !state.measured });
      measured.append(`Measured here: ${change.before} now, and ${change.side} ${change.at} ${change.after} (the rule: ${change.rule}${change.open ? `; the card is open: ${change.open}` : ""}). `, make("a", { href: change.url, textContent: "The card" }), ".");
      changed.append(
        make("h3", { textContent: "A requirement changes" }),
        make("p", {}, make("strong", { textContent: `${change.what}: ${change.new} instead of ${change.now}.` }), ` ${change.question} Say what you change, what it costs, and what stays.`),
        make("label", { htmlFor: "reaction", textContent: "Your reaction" }),
        reaction,
        make("p", { className: "buttons" }, button("What did the book measure?", () => {
          state.measured = true;
          measured.hidden = false;
          save();
        })),
        measured,
      );
    };
    const sooner = button("Change a requirement now", () => {
      showChange();
      sooner.remove();
      save();
    });
    // Those of the level first; when they run out, the others.
    const above = (up) => Math.max(0, PRACTICE.levels.indexOf(up.level) - PRACTICE.levels.indexOf(state.level));
    const ups = one.followups.map((up, i) => ({ ...up, i }));
    const more = make("ol", { className: "followups" });
    const next = button("Next follow-up", () => {
      const left = ups.filter((up) => !(up.i in state.opened));
      if (!left.length) return;
      const nearest = left.filter((up) => above(up) === Math.min(...left.map(above)));
      state.opened[nearest[Math.floor(Math.random() * nearest.length)].i] = true;
      showUps();
      save();
    });
    const showUps = () => {
      for (const key of Object.keys(state.opened)) {
        if (more.querySelector(`[data-i="${key}"]`) || !one.followups[key]) continue;
        const up = one.followups[key];
        const item = make("li", {}, make("strong", { textContent: up.question }), make("details", {}, make("summary", { textContent: "A strong answer" }), markup("div", up.answer), make("p", {}, make("a", { href: up.url, textContent: "Where it stands" }))));
        item.dataset.i = key;
        more.append(item);
        formulas(item);
      }
      next.disabled = ups.every((up) => up.i in state.opened);
    };
    let at = -1;
    const tick = () => {
      clock.textContent = `${shown(state.elapsed)} of ${LENGTH}:00`;
      pause.textContent = state.running ? "Pause the clock" : "Go on";
      const now = stepNow();
      notes.forEach((item, i) => (i === now ? item.setAttribute("aria-current", "step") : item.removeAttribute("aria-current")));
      if (now !== at && at >= 0) tell(now < notes.length ? `Time for the next step: ${PRACTICE.minutes[now][0]}.` : "Time is up. Close, then grade yourself.");
      at = now;
      if (change && (state.changed || state.elapsed >= state.changeAt)) {
        showChange();
        sooner.remove();
      }
      if (slept) {
        sleepy.hidden = false;
        sleepy.replaceChildren(`The clock waited ${shown(slept)} while the page slept. `, button("Count that time", () => {
          state.elapsed += slept;
          slept = 0;
          sleepy.hidden = true;
          tick();
        }));
      }
    };
    onTick = tick;
    body.replaceChildren(
      make("h2", { textContent: one.title, tabIndex: -1 }),
      markup("blockquote", one.prompt),
      make("p", { className: "clock" }, clock, " ", pause),
      sleepy,
      make("h3", { textContent: "Ask" }),
      make("p", { textContent: "The interviewer answers what is asked, and nothing else." }),
      ask,
      make("div", { aria: { role: "log", label: "What was asked" } }, heard),
      changed,
      ...(change ? [make("p", { className: "buttons" }, sooner)] : []),
      make("h3", { textContent: "Your notes, by step" }),
      steps,
      make("h3", { textContent: "Follow-ups" }),
      more,
      make("p", { className: "buttons" }, next),
      make("p", { className: "buttons" }, button("Close and grade", () => phase("grade")), exporter(), leave()),
    );
    showUps();
    tick();
  };

  const reached = () => {
    const share = Object.fromEntries(PRACTICE.levels.map((level) => {
      const all = current().signals.map((signal, i) => ({ ...signal, i })).filter((signal) => signal.level === level);
      return [level, all.length ? all.filter((signal) => state.ticks[signal.i]).length / all.length : 0];
    }));
    if (share.mid < 2 / 3) return "not yet mid";
    return share.senior < 1 / 2 ? "mid" : share.staff < 1 / 2 ? "senior" : "staff";
  };
  const never = () => current().talk.filter((_, i) => !state.asked.some((entry) => entry.talk === i));
  const missed = () => {
    const most = PRACTICE.levels.indexOf(state.level);
    return current().signals.filter((signal, i) => !state.ticks[i] && PRACTICE.levels.indexOf(signal.level) <= most);
  };

  const grade = () => {
    const one = current(), lists = [];
    onTick = () => {};
    const verdict = make("p", { className: "verdict", aria: { role: "status", live: "polite" } });
    const lacks = make("ul");
    const update = () => {
      verdict.replaceChildren("By these signals: ", make("strong", { textContent: reached() }), `. ${LEVEL_RULE}`);
      lacks.replaceChildren(
        ...missed().map((signal) => make("li", {}, `${signal.level}: `, make("a", { href: one.steps[signal.step] ?? one.rubric, textContent: signal.text }))),
        ...never().map(([question]) => make("li", {}, "never asked: ", make("a", { href: one.steps.clarify, textContent: question }))),
      );
    };
    for (const level of PRACTICE.levels) {
      const group = make("fieldset", {}, make("legend", { textContent: level }));
      one.signals.forEach((signal, i) => {
        if (signal.level !== level) return;
        const tick = make("input", { type: "checkbox", checked: Boolean(state.ticks[i]) });
        tick.addEventListener("change", () => {
          state.ticks[i] = tick.checked;
          save();
          update();
        });
        group.append(make("label", {}, tick, ` ${signal.step ? `${signal.step}: ` : ""}${signal.text}`));
      });
      if (group.childElementCount > 1) lists.push(group);
    }
    update();
    body.replaceChildren(
      make("h2", { textContent: `${one.title}: how did it go?`, tabIndex: -1 }),
      make("p", { textContent: `You took ${shown(state.elapsed)} of ${LENGTH}:00. Tick what you did, as a strict interviewer would: said and reasoned, not only named.` }),
      ...lists,
      verdict,
      make("h3", { textContent: "What was missed, and where it is measured" }),
      lacks,
      ...(one.failures ? [make("p", {}, make("strong", { textContent: "The usual failures: " }), one.failures)] : []),
      make("p", {}, make("a", { href: one.url, textContent: "The chapter" }), " · ", make("a", { href: one.sheet, textContent: "its cheat sheet" })),
      make("p", { className: "buttons" }, button("Save the report", () => download(`interview-${state.case}.md`, report(), "text/markdown")), exporter(), button("Back to the interview", () => phase("talk")), leave("Another case")),
    );
  };

  // ---------- files ----------

  const download = (name, text, type) => {
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const report = () => {
    const one = current(), change = one.changes[state.change], lines = [];
    const part = (title, items) => items.length && lines.push("", `## ${title}`, "", ...items);
    lines.push(`# Mock interview: ${one.title}`, "", `Level sought: ${state.level}. By the signals ticked: ${reached()}. Time: ${shown(state.elapsed)} of ${LENGTH}:00.`);
    part("Notes", PRACTICE.minutes.flatMap(([name]) => (state.notes[name] ? [`**${name}**`, "", state.notes[name], ""] : [])));
    part("Asked", state.asked.map(({ q, said }) => `- ${q} -- ${said}`));
    if (state.changed && change) part("The requirement that changed", [`${change.what}: ${change.new} instead of ${change.now}. ${change.question}`, "", state.reaction || "(no reaction noted)", "", `Measured: ${change.before} now, and ${change.side} ${change.at} ${change.after}.`]);
    part("Done", one.signals.filter((_, i) => state.ticks[i]).map((signal) => `- ${signal.level}: ${signal.text}`));
    part("Missed", [...missed().map((signal) => `- ${signal.level}: ${signal.text}`), ...never().map(([question]) => `- never asked: ${question}`)]);
    return `${lines.join("\n")}\n`;
  };
  const exporter = () => button("Save as a file", () => download(`interview-${state.case}.json`, JSON.stringify(state), "application/json"));
  const importer = () => {
    const file = make("input", { type: "file", accept: ".json,application/json", id: "interview-file" });
    file.addEventListener("change", async () => {
      try {
        const found = JSON.parse(await file.files[0].text()), wrong = fault(found);
        if (wrong) throw new Error(wrong);
        state = { ...blank(), ...found };
        phase(state.phase);
        tell("The interview was read from the file. The clock goes on.");
      } catch (error) {
        tell(`This file could not be read: ${error.message}. Nothing was changed.`);
        file.value = "";
      }
    });
    return make("span", {}, make("label", { htmlFor: file.id, textContent: "or go on from a file " }), file);
  };
  const leave = (text = "Leave, and forget this interview") => {
    let sure = false;
    const made = button(text, () => {
      if (!sure && state.phase === "talk") {
        sure = true;
        made.textContent = "Really? Notes and answers will be gone";
        return;
      }
      state = blank();
      phase("choose");
    });
    return made;
  };

  const draw = () => ({ choose, talk, grade })[state.phase]();
  room.replaceChildren(live, body);
  load();
  last = Date.now();
  draw();
  if (message) tell(message);
  else if (state.phase === "talk") tell("Your interview was kept. The clock stands: go on when you are ready.");
})();
