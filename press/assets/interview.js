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
  // A button that asks before it does what cannot be undone. A double click is one press, and so is a key that is held.
  const twice = (text, question, needed, action) => {
    let sure = false;
    const made = button(text, ({ detail }) => {
      if (detail > 1) return;
      if (sure || !needed()) return action();
      sure = true;
      made.textContent = question;
    });
    made.addEventListener("keydown", (event) => event.repeat && event.preventDefault());
    return made;
  };
  const formulas = (element) => window.MathJax?.startup?.promise?.then(() => MathJax.typesetPromise([element]));

  // ---------- state ----------

  const blank = () => ({ version: VERSION, phase: "choose", elapsed: 0, running: false, notes: {}, asked: [], ticks: {}, opened: {} });
  const isMap = (found) => typeof found === "object" && found !== null && !Array.isArray(found);
  const isText = (found) => typeof found === "string";
  const isNumber = (found) => Number.isFinite(found) && found >= 0;
  const PARTS = {
    elapsed: isNumber,
    notes: (found) => isMap(found) && Object.values(found).every(isText),
    asked: (found) => Array.isArray(found) && found.every((entry) => isMap(entry) && isText(entry.q) && isText(entry.said)),
    ticks: isMap,
    opened: isMap,
    reaction: (found) => found === undefined || isText(found),
    change: (found) => found === undefined || found === null || isNumber(found),
    changeAt: (found) => found === undefined || isNumber(found),
  };
  const fault = (found) => {
    if (!isMap(found)) return "it holds no interview";
    if (found.version !== VERSION) return `it has version ${found.version}, and this page reads version ${VERSION}`;
    if (!["choose", "talk", "grade"].includes(found.phase)) return "it does not say how far the interview was";
    if (found.phase !== "choose" && !PRACTICE.cases.some((one) => one.name === found.case)) return `it is about ${found.case}, which is not in this book`;
    if (found.phase !== "choose" && !PRACTICE.levels.includes(found.level)) return `it is for the level ${found.level}, which is not in this book`;
    const whole = { ...blank(), ...found };
    const wrong = Object.keys(PARTS).find((part) => !PARTS[part](whole[part]));
    return wrong ? `its part "${wrong}" is damaged` : "";
  };
  // Ticks, follow-ups and the changed requirement are kept by their place in a list; another edition of the book has other lists.
  const edition = (one) => {
    const text = JSON.stringify([one.talk, one.changes.map(({ what, before, after }) => [what, before, after]), one.followups.map((up) => up.question), one.signals.map((signal) => signal.text)]);
    return [...text].reduce((sum, letter) => (Math.imul(sum, 31) + letter.codePointAt(0)) >>> 0, 7);
  };
  // An interview that was kept or saved, made ready to go on. Says what of it is lost.
  const adopt = (found) => {
    state = { ...blank(), ...found, running: false };
    const one = current();
    if (state.phase === "choose" || state.edition === edition(one)) return "";
    const asked = state.asked.map(({ talk, ...entry }) => entry);
    state = { ...state, edition: edition(one), ticks: {}, opened: {}, change: null, asked };
    return " The book has changed since then: what you wrote and asked is kept, ticks and follow-ups begin anew.";
  };
  let message = "", keeps = true, elsewhere = false, atOpening = null, state = blank();
  const save = () => {
    if (elsewhere) return;
    try {
      localStorage.setItem(KEY, JSON.stringify(state));
      keeps = true;
    } catch {
      if (keeps || !live.textContent) tell("This browser keeps nothing (its storage is full or forbidden). Save the interview as a file before you leave.");
      keeps = false;
    }
  };
  const unread = () => {
    try {
      return localStorage.getItem(`${KEY}:unread`);
    } catch {
      return null;
    }
  };
  const load = () => {
    let text = null;
    try {
      text = atOpening = localStorage.getItem(KEY);
      if (text === null) return;
      const found = JSON.parse(text), wrong = fault(found);
      if (wrong) throw new Error(wrong);
      const lost = adopt(found);
      if (state.phase === "talk") message = `Your interview was kept. The clock stands: go on when you are ready.${lost}`;
      else message = lost.trim();
    } catch (error) {
      if (text === null) return; // no storage: `save` will say so
      try {
        localStorage.setItem(`${KEY}:unread`, text);
      } catch {}
      message = `The interview that this browser kept could not be read (${error.message}). It was put aside; you begin anew.`;
    }
  };
  // Two tabs would write over each other: the one that was left stops, and the one that was opened last goes on.
  addEventListener("storage", ({ key, newValue }) => {
    // What this page found when it opened may be told to it late: of a reload, its own last words.
    if (key !== KEY || newValue === null || newValue === atOpening || elsewhere || state.phase === "choose") return;
    elsewhere = true;
    state.running = false;
    onTick();
    tell("The interview goes on in another tab, and nothing more is kept here. Reload this page to go on here, or save it as a file.");
  });
  // Whether another tab has begun an interview since this page was opened: here, none is begun yet.
  const taken = () => {
    try {
      const found = JSON.parse(localStorage.getItem(KEY));
      return !fault(found) && found.phase !== "choose";
    } catch {
      return false;
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
  const count = (most) => {
    const now = Date.now(), gap = Math.max(0, now - last) / 1000; // the machine's clock may be set back
    last = now;
    if (!state.running) return;
    if (gap > most) slept += gap; // the machine slept, or the page was put to sleep: that time is not counted unless the reader wants it
    else state.elapsed += gap;
    onTick();
    if (Math.floor(state.elapsed) % 5 === 0) save();
  };
  // Behind another tab or window a browser wakes a page once a minute: the interview goes on there.
  const [AWAKE, BEHIND] = [5, 90];
  setInterval(() => count(document.hidden ? BEHIND : AWAKE), 1000);
  document.addEventListener("visibilitychange", () => count(document.hidden ? AWAKE : BEHIND));
  addEventListener("pagehide", () => state.phase !== "choose" && save());

  // ---------- what the interviewer knows ----------

  // A question is about a topic if it has one of its words. An answer counts for what it was asked first, then for what it says.
  const TOPICS = Object.entries({
    goal: /goal|objective|success|purpose|achiev|optimi[sz]|(?<!guardrail )\bmetric|\bkpi|\bis (it|this|that|the \w+) for *(\?|$)|worth (it|their)|business|launch rest on|measure (that|whether|if|it|this)\b/,
    guard: /guardrail|worse(?!.*roll.?back)|must not|\bharm(?!ful)|\brise\b|flood|overwhelm/,
    mistake: /mistake|error|(?<!\b(go|goes|going|gone|went) )wrong|false (positive|negative|blur|page|alarm)|\balarms?\b|\bdear\b|miss(es)? cost|cost of a (miss|false)|worse,(?!.*roll.?back)/,
    scale: /how many(?! (days|weeks|months|engineers|regions|false|alarms|pages))|how much (traffic|imagery)|(how large|how big)(?! (is|are) (the|your|our) (team|model|embedding))|\bscale|traffic(?!,| (is |be |served )?(at )?random)|volume|\bqps|per second|(?<!team )\bsize\b|\bpeak|\bgrow(s|ing|th)?\b|million|billion|visits|thousand users|requests a|catalogu?e|corpus|inventory/,
    latency: /latenc|(\bfast\b|quick)(?!.*\b(react|notic|detect|grow|change))|\bslow|response time|respond|millisecond|\d ms\b|instant|real.?time|within \d+ ms|how soon must (we|it) (act|answer)/,
    fresh: /fresh|stale|\bupdat|up.to.date|be old|how soon must a new|world change|within minutes|next page|live\?|how often does|\breact\b|changes? (within|during)|how (fast|often) do(es)? .*\bchange/,
    cold: /\bnew\b(?! (model|version|polic|train))|cold.?start|joined|sign.?up|just uploaded/,
    label: /label|ground.?truth|outcome|positive|relevan|\bgrade|annotat|(?<!negative )feedback|survey|do we measure (what|"|“)|who says|counts as/,
    delay: /delay|\blate\b|when (do|does|is|will|are)\b.*\b(know|known|come|comes)\b|\bknown\b(?! (of|about))|how soon do we know|arriv|until we know|how long .*(label|outcome|know)/,
    logs: /\blogs?\b|logged|training data|train on|data (do|have|is|are)(?! kept of)|features?\b(?! store)|signals?\b|known? of\b|what do we know|known? about/,
    keep: /\bkeep\b|\bkept\b|retention|retain|delet|eras|privacy|gdpr|personal data|consent|legal|regulat/,
    today: /today|baseline|exist|incumbent|current(ly)?\b|what decides|right now|at the moment|in place|already/,
    scope: /scope|leave out|ignore|focus on|exclude/,
    cost: /budget|\bcosts?\b|money|price|\bcents?\b|dollar|hardware|machines|\bgpu|(?<!pre)compute(?!d)|computing|\bcpu|\bpays?\b/,
    random: /random|explor|propensit/,
    personal: /personali[sz]|who the user is|logged.?in|know (the|them|who)/,
    down: /\bdown\b(?! \d)|fail|outage|fall.?back|unavailable|availability|uptime|\bdies?\b|killed|crash|nothing (found|similar)|(?<!stays )empty/,
    attack: /adversar|abus|spam|fight back|fraud|attack|evad|malicious|scam|unsafe|inappropriate/,
    fair: /\bfair|groups?\b|creators?|hosts?\b|sellers?|small authors|advertisers|bias against/,
    language: /language|countr|region|market\b|locale/,
    test: /a\/b|experiment|\btests?\b|roll.?(out|back)|undo|upgrade/,
    retrain: /retrain|how often .*\btrain(ed)?\b|new models?(?! is)|new versions?/,
    people: /reviewer|moderator|annotator|auditor|editors?\b|human|labell?ing team/,
    action: /what can we do|actions?\b|what (happens|do we do) (to|with)|decide\b|remove|take down|intervention/,
    policy: /\brules?\b|polic(y|ies)|who wrote/,
    output: /how many (results|slots|cards|places|items do we show)|\bslots?\b|output|input|search (by|with)|what does .* return|one thing/,
    notice: /\bnotic|\bdetect(s|ed|ion)?\b/,
    place: /\blocat(?!e)|\bgps\b|\btracks\b/,
    learn: /learn from|train on|training data/,
    hide: /\bhid(e|es|ing)\b|\bblock(s|ed)?\b|negative feedback/,
    whom: /\bwhom\b|segments?\b|cohorts?\b|affected|which (users|clients|groups|devices|platforms)|since when|when did/,
    changed: /did (we|you|anything|anyone)\b.*(launch|deploy|release|change)/,
    joined: /new (users?|members?|readers?|people)|sign.?up|joined/,
    tickets: /\btickets?\b|\bpaid\b/,
    night: /nightly|overnight|\bat night\b|\bbatch\b/,
    cheaper: /quality|cheaper|precision than|lower precision|quanti[sz]/,
    team: /team size|how (large|big) is (the|your) team|timeline|deadline|engineers/,
  });
  // Where nothing is known of a topic, the next to ask about.
  const INSTEAD = { label: "goal", delay: "label", goal: "label", random: "logs", mistake: "guard", guard: "mistake", cold: "fresh", logs: "keep" };
  const STOP = new Set("a about an and any are as at be but by can come could did do does ever for from get give given had has have how i if in is it its just know let like long made make many may me might more most much must my need needed needs new no not of often on one or our out per please say shall she should show so some take tell than that the their them then there these they thing things this to too up us use used user users want was we were what when where which while who why will with work would yes you your people person member members reader readers second".split(" "));
  const stem = (word) => (word.length > 3 ? word.replace(/(?:ies|es|s|ed|ing|e)$/, "") : word);
  const topicsOf = (text) => TOPICS.flatMap(([name, words]) => (words.test(text.toLowerCase()) ? [name] : []));
  const tokens = (text) => text.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter((word) => word.length > 1 && !STOP.has(word)).map(stem);
  // What the interviewer knows, each with what it answers to first (a question of the dialogue, the name of a requirement) and what it says.
  const knownOf = ({ talk, pinned }) =>
    [...talk.map(([question, said], i) => ({ first: question, said, talk: i })), ...pinned.map((line) => ({ first: line.includes(": ") ? line.split(": ")[0] : line, said: line }))].map((one) => ({
      ...one, topics: new Set(topicsOf(one.first)), further: new Set(topicsOf(one.said)), words: new Set(tokens(one.first)), other: new Set(tokens(one.said)),
    }));
  const best = (part, known) => {
    const spread = (test) => known.filter(test).length;
    const there = (topic) => spread(({ topics, further }) => topics.has(topic) || further.has(topic));
    const asked = [...new Set(tokens(part))], topics = topicsOf(part).map((topic) => (there(topic) ? topic : (INSTEAD[topic] ?? topic)));
    const rarity = (topic) => 1 / (1 + there(topic));
    const scored = known.map((one) => {
      const by_topic = topics.reduce((sum, topic) => sum + (one.topics.has(topic) ? 2 : one.further.has(topic) ? 1.2 : 0) * (0.6 + rarity(topic)), 0);
      const by_word = asked.reduce((sum, word) => sum + (one.words.has(word) ? 1 : one.other.has(word) ? 0.5 : 0) / Math.sqrt(spread(({ words, other }) => words.has(word) || other.has(word)) || 1), 0);
      return { one, score: by_topic + by_word + (one.talk === undefined ? 0 : 0.15), by_topic, by_word };
    });
    const found = scored.reduce((a, b) => (b.score > a.score ? b : a));
    // Without a topic in common it takes words: one that the question is made of, or two.
    return found.by_topic > 0 || found.by_word >= (asked.length > 1 ? 0.9 : 0.5) ? { ...found.one, shared: topics } : null;
  };
  const answer = (query) => {
    const known = knownOf(current());
    const parts = query.split(/[?;.]+|,? and (?=how|what|when|which|who|is|are|do|does|can|may|must|should)/i).map((part) => part.trim()).filter(Boolean);
    const found = parts.map((part) => best(part, known)).filter(Boolean);
    if (!found.length) return { said: DONT_KNOW };
    const sentence = (text) => (/[.?!"]$/.test(text) ? text : `${text[0].toUpperCase()}${text.slice(1)}.`);
    // A requirement that was read out answers the questions of the dialogue on the same topic, too.
    const also = found.filter(({ talk }) => talk === undefined).flatMap(({ shared }) => known.filter(({ talk, topics }) => talk !== undefined && shared.some((topic) => topics.has(topic))));
    return { said: [...new Set(found.map(({ said }) => sentence(said)))].join(" "), talk: [...new Set([...found, ...also].flatMap(({ talk }) => (talk === undefined ? [] : [talk])))] };
  };

  // ---------- phases ----------

  const phase = (name) => {
    state.phase = name;
    saved = false;
    slept = 0;
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
    const beginning = (text, name) => twice(text, "Really? The interview in another tab will be gone", taken, () => begin(name()));
    const begin = (name) => {
      const one = PRACTICE.cases.find((each) => each.name === name);
      const change = Math.floor(Math.random() * one.changes.length);
      state = { ...blank(), case: name, edition: edition(one), level: level.value, change, changeAt: 60 * (20 + Math.floor(Math.random() * 8)) };
      phase("talk");
    };
    body.replaceChildren(
      make("h2", { textContent: "Choose a case", tabIndex: -1 }),
      make("p", { className: "buttons" }, make("label", { htmlFor: cases.id, textContent: "Case" }), cases, make("label", { htmlFor: level.id, textContent: "Level" }), level),
      make("p", { className: "buttons" }, beginning("Begin", () => cases.value), beginning("Draw a case for me", () => PRACTICE.cases[Math.floor(Math.random() * PRACTICE.cases.length)].name), importer()),
      make("p", { textContent: `The clock starts at once, at ${LENGTH}:00 for the whole; you can pause it. Have paper or a board at hand, and speak aloud.` }),
      ...(unread() === null ? [] : [make("p", { className: "buttons" }, button("Save what could not be read as a file", () => download("interview-unread.json", unread(), "application/json")))]),
    );
  };

  // ---------- the change, in words ----------

  const news = (change) => `${change.what}: ${change.new}, no longer ${change.now}.`;
  const outcome = (change, strong) => ["Measured here: at ", change.now, " the choice is ", strong(change.before), `; ${change.side} ${change.at} it is `, strong(change.after), `. The rule: ${change.rule}.`, change.open ? ` The card is open: ${change.open}.` : ""];
  const tableOf = ({ table, after, what, new: there }) => {
    const head = make("tr", {}, make("th", { scope: "col", textContent: "option" }), ...table.columns.map((name) => make("th", { scope: "col", className: "number", textContent: name })));
    const rows = table.rows.map(([option, ...cells]) => make("tr", { className: option === after ? "chosen" : "" }, make("th", { scope: "row", textContent: option }), ...cells.map((cell) => make("td", { className: "number", textContent: cell }))));
    const caption = make("caption", { textContent: `${what}: ${there}` });
    return make("div", { className: "options", tabIndex: 0, aria: { role: "group", label: "The options as measured" } }, make("table", {}, caption, make("thead", {}, head), make("tbody", {}, ...rows)));
  };

  const talk = () => {
    const one = current();
    const clock = make("span", { className: "time", aria: { role: "timer", live: "off" } });
    const step = make("span", { className: "step" });
    const alert = button("A requirement has changed", () => changed.querySelector("h3").focus());
    alert.hidden = true;
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
    const heard = make("ol", { className: "heard", reversed: true }); // the last answer beside the question, however many there were
    const hear = ({ q, said }) => heard.prepend(make("li", {}, make("strong", { textContent: `${q} ` }), said));
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
      reaction.addEventListener("focus", () => (alert.hidden = true));
      const measured = make("div", { hidden: !state.measured }, make("p", {}, ...outcome(change, (text) => make("strong", { textContent: text })), " ", make("a", { href: change.url, textContent: "The card" }), "."));
      if (change.table) measured.append(tableOf(change));
      changed.append(
        make("h3", { textContent: change.kind === "result" ? "A result comes out otherwise" : "A requirement changes", tabIndex: -1 }),
        make("p", {}, make("strong", { textContent: news(change) }), ` ${change.question} Say what you change, what it costs, and what stays. Where your design has no such part, say why not.`),
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
      changed.querySelector("h3").focus();
      save();
    });
    // Those of the level first; when they run out, the nearest.
    const distance = (up) => (up.level ? Math.abs(PRACTICE.levels.indexOf(up.level) - PRACTICE.levels.indexOf(state.level)) : 0);
    const ups = one.followups.map((up, i) => ({ ...up, i }));
    const more = make("ol", { className: "followups" });
    const next = button("Next follow-up", () => {
      const left = ups.filter((up) => !(up.i in state.opened));
      if (!left.length) return;
      const nearest = left.filter((up) => distance(up) === Math.min(...left.map(distance)));
      state.opened[nearest[Math.floor(Math.random() * nearest.length)].i] = true;
      showUps();
      more.lastElementChild.focus();
      save();
    });
    const showUps = () => {
      for (const key of Object.keys(state.opened)) {
        if (more.querySelector(`[data-i="${key}"]`) || !one.followups[key]) continue;
        const up = one.followups[key];
        const item = make("li", { tabIndex: -1 }, make("strong", { textContent: up.question }), up.level ? ` (${up.level})` : "", make("details", {}, make("summary", { textContent: "A strong answer" }), markup("div", up.answer), make("p", {}, make("a", { href: up.url, textContent: "Where it stands" }))));
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
      step.textContent = now < PRACTICE.minutes.length ? PRACTICE.minutes[now][0] : "Time is up";
      notes.forEach((item, i) => (i === now ? item.setAttribute("aria-current", "step") : item.removeAttribute("aria-current")));
      if (now !== at && at >= 0) tell(now < notes.length ? `Time for the next step: ${PRACTICE.minutes[now][0]}.` : "Time is up. Close, then grade yourself.");
      at = now;
      if (change && (state.changed || state.elapsed >= state.changeAt)) {
        const known = Boolean(state.changed);
        showChange();
        if (!known) alert.hidden = false;
        sooner.remove();
      }
      if (slept) {
        sleepy.hidden = false;
        sleepy.replaceChildren(`The clock waited ${shown(slept)} while the page slept. `, button("Count that time", () => {
          state.elapsed += slept;
          slept = 0;
          sleepy.hidden = true;
          pause.focus();
          tick();
        }));
      }
    };
    onTick = tick;
    body.replaceChildren(
      make("h2", { textContent: one.title, tabIndex: -1 }),
      markup("blockquote", one.prompt),
      make("p", { className: "clock" }, clock, step, pause, alert),
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
  const never = () => current().talk.filter((_, i) => !state.asked.some((entry) => [entry.talk].flat().includes(i)));
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
        ...missed().map((signal) => make("li", {}, `${signal.level}: ${signal.text}: `, make("a", { href: signal.url, textContent: signal.where }))),
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
      make("p", { className: "buttons" }, button("Save the report", () => (saved = true) && download(`interview-${state.case}.md`, report(), "text/markdown")), exporter(), button("Back to the interview", () => phase("talk")), leave("Another case")),
    );
  };

  // ---------- files ----------

  let saved = false; // whether what is on the screen has been saved as a file
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
    if (state.changed && change) part("The requirement that changed", [`${news(change)} ${change.question}`, "", state.reaction || "(no reaction noted)", "", outcome(change, String).join("")]);
    else if (state.reaction) part("To a requirement that changed, in an earlier edition of the book", [state.reaction]);
    part("Done", one.signals.filter((_, i) => state.ticks[i]).map((signal) => `- ${signal.level}: ${signal.text}`));
    part("Missed", [...missed().map((signal) => `- ${signal.level}: ${signal.text}`), ...never().map(([question]) => `- never asked: ${question}`)]);
    return `${lines.join("\n")}\n`;
  };
  const exporter = () => button("Save as a file", () => (saved = true) && download(`interview-${state.case}.json`, JSON.stringify(state), "application/json"));
  const importer = () => {
    const file = make("input", { type: "file", accept: ".json,application/json", id: "interview-file" });
    file.addEventListener("change", async () => {
      try {
        const found = JSON.parse(await file.files[0].text()), wrong = fault(found);
        if (wrong) throw new Error(wrong);
        if (taken()) throw new Error("an interview goes on in another tab; reload this page to go on with that, or leave it there");
        const lost = adopt(found);
        phase(state.phase);
        tell(`The interview was read from the file.${state.phase === "talk" ? " The clock goes on." : ""}${lost}`);
      } catch (error) {
        tell(`This file could not be read: ${error.message}. Nothing was changed.`);
        file.value = "";
      }
    });
    return make("span", {}, make("label", { htmlFor: file.id, textContent: "or go on from a file " }), file);
  };
  const leave = (text = "Leave, and forget this interview") =>
    twice(text, "Really? Notes and answers will be gone", () => !(saved && state.phase === "grade"), () => {
      state = blank();
      phase("choose");
    });

  const draw = () => ({ choose, talk, grade })[state.phase]();
  room.replaceChildren(live, body);
  load();
  last = Date.now();
  draw();
  if (state.phase !== "choose") save();
  if (message) tell(message);
})();
