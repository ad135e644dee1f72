// The page of `hardquery view`. All text is put in as text, never as HTML; the state is in the address after "#".
"use strict";

const TABS = { groups: "Groups", pairs: "Judged pairs", by_video: "Queries that look alike", dropped: "Queries left out", rejections: "Rejections", failures: "Failures" };
const at = (id) => document.getElementById(id);
let about, state, rows = [], shown = null, current = 0;

function el(name, given, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given || {})) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

const offline = at("data") && JSON.parse(at("data").textContent); // of a page that stands alone

async function ask(what, asked = {}) {
  if (offline) return answerFromFile(offline, what, asked);
  const reply = await fetch(`api/${what}?${new URLSearchParams(asked)}`);
  if (!reply.ok) throw new Error(await reply.text());
  return reply.json();
}

async function tell(what, told) {
  const reply = await fetch(`api/${what}`, { method: "POST", body: JSON.stringify(told) });
  if (!reply.ok) throw new Error(await reply.text());
  return reply.json();
}

function say(text) {
  at("said").textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { at("said").textContent = ""; }, 5000);
}

// -- the address ------------------------------------------------------------------------------------------------------

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  const read = { of: given.get("of") || "groups", sort: given.get("sort") ?? "doubt", search: given.get("search") || "", first: Number(given.get("first") || 0), q: given.get("q") || "", filters: {} };
  for (const [name, value] of given) if (name.startsWith("f.")) read.filters[name] = value;
  return read;
}

function addressOf(change) {
  const next = { ...state, ...change };
  const given = new URLSearchParams({ of: next.of, ...next.filters });
  if (next.sort !== "doubt") given.set("sort", next.sort);
  if (next.search) given.set("search", next.search);
  if (next.first) given.set("first", next.first);
  if (next.q) given.set("q", next.q);
  return `#${given}`;
}

const go = (change) => { location.hash = addressOf(change); };
const listKey = (s) => JSON.stringify([s.of, s.sort, s.search, s.first, s.filters]);

async function follow() {
  const before = state;
  state = readState();
  document.body.classList.toggle("chosen", Boolean(state.q));
  try {
    if (!before || listKey(before) !== listKey(state)) await showList(before);
    for (const link of at("rows").querySelectorAll("a")) {
      const here = link.dataset.q === state.q;
      link.toggleAttribute("aria-current", here);
      if (here) { link.setAttribute("aria-current", "true"); link.scrollIntoView({ block: "nearest" }); }
    }
    if (!before || before.q !== state.q || before.of !== state.of) await showQuery();
  } catch (error) { say(error.message); }
}

// -- the list ---------------------------------------------------------------------------------------------------------

async function showList(before) {
  const s = state;
  for (const link of at("tabs").children) link.dataset.of === s.of ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  const found = await ask("list", { of: s.of, sort: s.sort, search: s.search, first: s.first, ...s.filters });
  if (s !== state) return;
  rows = found.rows;
  at("search").value = s.search;
  at("sort-field").hidden = !["groups", "pairs", "by_video"].includes(s.of);
  for (const option of at("sort").options) option.hidden = option.value === "rank" && s.of === "by_video";
  at("sort").value = s.sort;
  if (!before || before.of !== s.of) showFacets(s.of).catch((error) => say(error.message)); else setFacets();
  const last = s.first + rows.length;
  at("found").textContent = found.found ? `${(s.first + 1).toLocaleString()} to ${last.toLocaleString()} of ${found.found.toLocaleString()}${found.found < found.of ? `, of ${found.of.toLocaleString()} in all` : ""}` : "None. Other words, or fewer filters, may find some.";
  at("rows").replaceChildren(...rows.map(showRow));
  at("before").disabled = s.first === 0;
  at("after").disabled = last >= found.found;
  at("pages").hidden = found.found <= rows.length;
}

function showRow(row) {
  const margin = row.deltas ? Math.min(...row.deltas.filter((d) => d !== null).map(Math.abs)) : null;
  const facts = {
    groups: () => [row.file, row.query_type, row.variant || row.source, Number.isFinite(margin) ? `least |margin| ${margin.toFixed(1)}` : null],
    pairs: () => [row.file, words(row.stratum), `judged ${row.label}`, nats(row.delta), row.rank ? `rank ${row.rank}` : null, row.reason],
    by_video: () => [row.file, `${row.others} that ${row.others === 1 ? "looks" : "look"} like it`, row.edits.map(words).join(", "), Number.isFinite(margin) ? `least |margin| ${margin.toFixed(1)}` : null],
    dropped: () => [row.file, `${row.stage}: ${row.reason}`, row.detail],
    rejections: () => [row.file, `${row.stage}/${row.step}: ${row.reason}`, row.detail],
    failures: () => [`${row.stage}/${row.step}: ${row.error_class}`, row.message],
  }[state.of]();
  const title = row.query || row.text || row.file || row.uri || row.video_id || row.query_id;
  const inside = [el("b", { dir: "auto" }, title), el("span", { class: "soft small", dir: "auto" }, facts.filter(Boolean).join(" · ")), row.marks.length ? el("span", { class: "marked small" }, ` ✗ ${row.marks.join(", ")}`) : ""];
  if (!row.query_id) return el("li", { class: "plain" }, ...inside);
  const key = row.query_id + (state.of === "pairs" ? ` ${row.video_id}` : "");
  return el("li", {}, el("a", { href: addressOf({ q: key }), "data-q": key }, ...inside));
}

async function showFacets(of) { // they come after the list, of which they are counted
  at("facets").replaceChildren();
  const facets = await ask("facets", { of });
  if (of !== state.of) return;
  at("facets").replaceChildren(...Object.entries(facets).filter(([, values]) => Object.keys(values).length > 1).map(([name, values]) => {
    const options = Object.entries(values).map(([value, count]) => el("option", { value: `=${value}` }, `${words(value) || (name === "reason" ? "kept" : "none")} (${count.toLocaleString()})`));
    return el("label", {}, `${name[0].toUpperCase()}${name.slice(1)} `, el("select", { "data-facet": `f.${name}`, onchange: (event) => {
      const filters = { ...state.filters };
      if (event.target.value) filters[`f.${name}`] = event.target.value.slice(1); else delete filters[`f.${name}`];
      go({ filters, first: 0, q: "" });
    } }, el("option", { value: "" }, "any"), ...options));
  }));
  setFacets();
}

function setFacets() {
  for (const select of at("facets").querySelectorAll("select")) select.value = select.dataset.facet in state.filters ? `=${state.filters[select.dataset.facet]}` : "";
}

// -- a query and its videos -------------------------------------------------------------------------------------------

async function showQuery() {
  const s = state, [id, video] = s.q.split(" ");
  current = 0;
  if (!id) { shown = null; at("detail").replaceChildren(el("p", { class: "soft" }, "Choose one of the list; j and k go through it, ? says which keys there are.")); return; }
  const query = await ask("query", { id });
  if (s !== state) return;
  shown = query;
  const kept = query.pairs.filter((pair, i) => pair.kept || i === 0 || pair.video_id === video);
  const others = query.pairs.filter((pair) => !kept.includes(pair));
  current = Math.max(0, kept.findIndex((pair) => pair.video_id === video));
  const left = query.verdict === "kept" ? null : el("p", {}, el("b", {}, `Left out at ${query.stage}: ${query.reason}. `), query.detail || "");
  const chips = [query.query_type && `${query.query_type} query`, query.variant ? `written from ${query.variant}` : `by ${query.source}`, ...(query.modalities || []).map((name) => `needs ${name}`), query.split, query.positive_rank ? `own video at rank ${query.positive_rank}` : null, query.query_id];
  at("detail").replaceChildren(
    el("a", { class: "back", href: addressOf({ q: "" }) }, "Back to the list"),
    el("div", { class: "card" },
      el("h2", { dir: "auto" }, query.text),
      el("div", { class: "chips" }, ...chips.filter(Boolean).map((text) => el("span", {}, text))),
      left,
      query.rationale ? el("p", { class: "soft", dir: "auto" }, query.rationale) : null,
      (query.cited || []).length ? el("p", { class: "small", dir: "auto" }, el("b", {}, "Cites "), query.cited.join(" · ")) : null,
      actions("", query, "bad query")),
    el("div", { class: "candidates" }, ...kept.map(showCandidate)),
    query.look_alikes.length ? el("section", { class: "card" }, el("h3", {}, "Queries that look like it, and its video does not answer"), el("ul", { class: "plain" }, ...query.look_alikes.map(showLookAlike))) : "",
    others.length ? el("details", { ontoggle: (event) => { if (event.target.open && !event.target.querySelector(".candidate")) event.target.append(el("div", { class: "candidates" }, ...others.map(showCandidate))); } }, el("summary", {}, `${others.length} other judged ${others.length === 1 ? "pair" : "pairs"}, not in the group`)) : "");
  markCurrent();
  at("detail").scrollTop = 0;
}

function showLookAlike(other) {
  if (!other.query) return el("li", {}, el("p", { class: "small soft" }, `${other.query_id}, marked and left out of this output`), actions(shown.video_id, other, "false negative", other.query_id));
  return el("li", {}, el("b", { dir: "auto" }, other.query), el("p", { class: "small soft" }, [words(other.edit), `judged ${other.teacher_label}`, nats(other.delta), other.query_id].join(" · ")), other.rationale ? el("p", { class: "small", dir: "auto" }, other.rationale) : "", actions(shown.video_id, other, "false negative", other.query_id));
}

function showCandidate(pair) {
  const facts = [pair.label ? `judged ${pair.label}` : "not judged", pair.label ? nats(pair.delta) : null, pair.p_yes !== null && pair.p_yes !== undefined ? `p(yes) ${pair.p_yes.toFixed(3)}` : null, pair.rank ? `rank ${pair.rank}` : pair.label ? "not retrieved" : null, pair.kept || !pair.reason ? null : pair.reason];
  const runs = (pair.runs || []).map((run) => `${run.run} ${run.rank || "behind"}`).join(", ");
  const evidence = el("div", {}, el("p", { class: "soft small" }, "…"));
  const card = el("article", { class: `card candidate ${pair.stratum}`, tabindex: "-1", onfocusin: () => { current = cards().indexOf(card); markCurrent(); } },
    el("h3", {}, words(pair.stratum)),
    el("p", { class: "small soft" }, facts.filter(Boolean).join(" · ") + (runs ? ` (${runs})` : "")),
    actions(pair.video_id, pair, pair.is_positive ? "wrong positive" : "false negative"),
    evidence,
    pair.rationale ? el("div", {}, el("h4", {}, "Judge"), el("p", { dir: "auto" }, pair.rationale)) : "");
  ask("video", { id: pair.video_id }).then((video) => showVideo(evidence, pair.video_id, video), (error) => evidence.replaceChildren(el("p", { class: "soft" }, error.message)));
  return card;
}

function showVideo(place, id, video) {
  const times = video.frame_times_s || [];
  const player = el("div", {});
  const strip = el("div", { class: "strip" }, ...times.map((time, n) => el("button", { type: "button", "aria-pressed": "false", onclick: () => play(time, n) }, el("img", { src: video.frames ? video.frames[n] : `frame?${new URLSearchParams({ id, n })}`, alt: `frame at ${clock(time)}`, loading: "lazy" }), el("time", { class: "small soft" }, clock(time)))));
  const show = (n) => { for (const [i, button] of [...strip.children].entries()) button.setAttribute("aria-pressed", String(i === n && button.getAttribute("aria-pressed") !== "true")); };
  const nearest = (time) => times.reduce((best, t, n) => (Math.abs(t - time) < Math.abs(times[best] - time) ? n : best), 0);
  function play(time, n = nearest(time)) {
    if (!video.plays) { show(n); return; }
    let film = player.querySelector("video");
    if (!film) {
      film = el("video", { controls: true, preload: "metadata", src: `source?${new URLSearchParams({ id })}`, "aria-label": video.file });
      film.addEventListener("error", () => { player.replaceChildren(el("p", { class: "small soft" }, "This browser cannot play the file; here are its frames.")); video.plays = false; show(n); });
      player.replaceChildren(film);
    }
    film.currentTime = time;
    film.play().catch(() => {});
  }
  const lines = (name, found) => found.length ? [el("h4", {}, name), el("ul", { class: "lines", tabindex: "0", "aria-label": name }, ...found.map(([time, text]) => el("li", {}, el("button", { type: "button", title: video.plays ? "Play from here" : "Show the nearest frame", onclick: () => play(time) }, el("time", {}, clock(time)), el("span", { dir: "auto" }, text)))))] : [];
  const metadata = video.metadata || {};
  const facts = [video.file, video.media && video.media.duration_s ? clock(video.media.duration_s) : null, video.split, metadata.language, video.plays ? null : "file not at hand"];
  place.replaceChildren(
    el("p", { class: "small" }, el("b", { dir: "auto" }, metadata.title || video.file), el("br"), el("span", { class: "soft", title: video.uri }, facts.filter(Boolean).join(" · "))),
    player,
    times.length ? strip : el("p", { class: "soft small" }, "No frames in the shards."),
    ...(video.caption ? [el("h4", {}, "Caption"), el("p", { dir: "auto" }, video.caption)] : []),
    ...lines("Said", (video.asr || []).map((segment) => [segment.start_s, segment.text])),
    ...lines("Written on screen", (video.ocr || []).map((line) => [line.time_s, line.text])),
    ...(metadata.description ? [el("h4", {}, "Description"), el("p", { dir: "auto" }, metadata.description)] : []),
    ...(video.warnings || []).map((warning) => el("p", { class: "small soft" }, `${warning.part}: ${warning.reason}`)));
}

// Of the shown query, or of one that looks like it.
function actions(video, said, verdict, lookAlike = "") {
  const note = el("input", { type: "text", placeholder: "note", "aria-label": `note on this ${verdict}`, hidden: !said.mark });
  note.value = said.note || "";
  const button = el("button", { type: "button", class: "mark", "aria-pressed": String(Boolean(said.mark)) }, `${verdict[0].toUpperCase()}${verdict.slice(1)}`);
  async function mark(wanted) {
    try {
      const now = await tell("mark", { query_id: lookAlike || shown.query_id, video_id: video, verdict: wanted, note: wanted ? note.value : "", ...(lookAlike && { looks_like: shown.query_id }) });
      Object.assign(said, now);
      button.setAttribute("aria-pressed", String(Boolean(now.mark)));
      note.hidden = !now.mark;
      say(now.mark ? `Marked: ${now.mark}. The next run leaves it out.` : "Mark taken back.");
      const row = rows.find((each) => each.query_id === shown.query_id && (state.of !== "pairs" || each.video_id === video));
      if (row) { row.marks = now.mark ? [...new Set([...row.marks, now.mark])] : row.marks.filter((each) => each !== verdict); redrawRow(row); }
    } catch (error) { say(error.message); }
  }
  button.addEventListener("click", () => mark(said.mark ? "" : verdict));
  note.addEventListener("change", () => mark(verdict));
  return el("div", { class: "actions" }, button, note);
}

function redrawRow(row) {
  const fresh = showRow(row);
  fresh.firstElementChild.setAttribute("aria-current", "true");
  at("rows").children[rows.indexOf(row)].replaceWith(fresh);
}

const cards = () => [...at("detail").querySelectorAll(".candidate")];
function markCurrent() { for (const [i, card] of cards().entries()) card.classList.toggle("current", i === current); }

const words = (name) => (name || "").replaceAll("_", " ").replaceAll("\n", ", ");
const nats = (delta) => (delta === null || delta === undefined ? "no margin" : `margin ${delta < 0 ? "−" : "+"}${Math.abs(delta).toFixed(2)}`);
function clock(seconds) {
  const whole = Math.floor(seconds), two = (n) => String(n).padStart(2, "0");
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}` : `${Math.floor(whole / 60)}:${two(whole % 60)}`;
}

// -- blind labelling --------------------------------------------------------------------------------------------------

let pairs = [], place = 0;

async function showPair() {
  const pair = pairs[place], here = place;
  const done = pairs.filter((each) => each.answer).length;
  const question = await ask("question", { id: pair.query_id });
  if (here !== place) return;
  const evidence = el("div", {}), said = el("p", { class: "soft small" }, `Pair ${place + 1} of ${pairs.length}, ${done} answered`);
  const buttons = [["yes", "Yes (y)"], ["no", "No (n)"], ["unsure", "Unsure (u)"]].map(([answer, name]) => el("button", { type: "button", "data-answer": answer, "aria-pressed": String(pair.answer === answer), onclick: () => answerPair(answer) }, name));
  at("detail").replaceChildren(said, el("div", { class: "card" }, el("p", { class: "soft small" }, "Is this video what the query asks for?"), el("h2", { dir: "auto" }, question.text)), el("div", { class: "card" }, el("h3", {}, "The video"), evidence), el("div", { class: "answers" }, ...buttons, el("button", { type: "button", onclick: () => turn(-1) }, "Back (k)"), el("button", { type: "button", onclick: () => turn(1) }, "Skip (j)")));
  showVideo(evidence, pair.video_id, await ask("video", { id: pair.video_id }));
  scrollTo(0, 0);
}

async function answerPair(answer) {
  try {
    const pair = pairs[place];
    pair.answer = (await tell("answer", { query_id: pair.query_id, video_id: pair.video_id, verdict: answer })).answer;
    const next = [...pairs.keys()].find((i) => i > place && !pairs[i].answer) ?? pairs.findIndex((each) => !each.answer);
    if (next < 0) { say("All are answered. `hardquery audit agreement` says what came of it."); showPair(); } else turn(next - place);
  } catch (error) { say(error.message); }
}

function turn(by) {
  place = Math.min(pairs.length - 1, Math.max(0, place + by));
  showPair().catch((error) => say(error.message));
}

async function beginBlind() {
  document.body.classList.add("blind", "chosen");
  pairs = await ask("pairs");
  place = Math.max(0, pairs.findIndex((pair) => !pair.answer));
  Object.assign(KEYS, { y: () => answerPair("yes"), n: () => answerPair("no"), u: () => answerPair("unsure"), j: () => turn(1), k: () => turn(-1), x: () => {}, b: () => {}, "/": () => {} });
  at("keys").replaceChildren(...[["y", "yes: it answers the query"], ["n", "no"], ["u", "unsure"], ["j k", "next and previous"], ["?", "this"]].flatMap(([key, said]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, said)]));
  at("keys-note").textContent = "Answers are kept as they are given, in the folder audit of the output.";
  if (pairs.length) await showPair(); else say("The sample is empty.");
}

// -- keys -------------------------------------------------------------------------------------------------------------

function step(by) {
  const links = [...at("rows").querySelectorAll("a")];
  const here = links.findIndex((link) => link.dataset.q === state.q);
  const next = links[here < 0 ? 0 : here + by];
  if (next) location.hash = next.getAttribute("href");
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  x: () => cards()[current]?.querySelector(".mark")?.click(),
  b: () => at("detail").querySelector(".card .mark")?.click(),
  n: () => (cards()[current]?.querySelector(".actions input:not([hidden])") || at("detail").querySelector(".actions input:not([hidden])"))?.focus(),
  "/": () => at("search").focus(),
  "?": () => at("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=checkbox]), select, textarea, video");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || at("help").open || !at("keys-on").checked) return;
  const act = /^[1-9]$/.test(event.key) ? () => cards()[Number(event.key) - 1]?.focus() : KEYS[event.key];
  if (act) { event.preventDefault(); act(); }
});

// -- begin ------------------------------------------------------------------------------------------------------------

async function begin() {
  about = await ask("about");
  document.title = `${about.name} · hardquery view`;
  at("name").textContent = about.name;
  at("help-button").addEventListener("click", () => at("help").showModal());
  at("about").textContent = [`${about.videos.toLocaleString()} videos`, `recipe ${about.recipe}`, about.part].filter(Boolean).join(" · ");
  if (offline) { document.body.classList.add("offline"); Object.assign(KEYS, { x: () => {}, b: () => {}, n: () => {} }); }
  if (about.blind) return beginBlind();
  at("labels-name").textContent = about.labels;
  at("sort").replaceChildren(...Object.entries(about.sorts).map(([name, said]) => el("option", { value: name }, said)), el("option", { value: "" }, "as stored"));
  at("tabs").replaceChildren(...Object.entries(TABS).filter(([of]) => (offline ? of in offline.lists : of === "dropped" || of in about.counts)).map(([of, name]) => el("a", { href: `#of=${of}`, "data-of": of }, name, about.counts[of] === undefined ? "" : el("span", { class: "soft small" }, ` ${about.counts[of].toLocaleString()}`))));
  at("filters").addEventListener("submit", (event) => { event.preventDefault(); go({ search: at("search").value.trim(), first: 0, q: "" }); });
  at("search").addEventListener("change", () => go({ search: at("search").value.trim(), first: 0, q: "" }));
  at("sort").addEventListener("change", () => go({ sort: at("sort").value, first: 0, q: "" }));
  at("before").addEventListener("click", () => go({ first: Math.max(0, state.first - 40), q: "" }));
  at("after").addEventListener("click", () => go({ first: state.first + 40, q: "" }));
  addEventListener("hashchange", follow);
  await follow();
}

begin().catch((error) => say(error.message));
