// The review page: shows one candidate after the other and sends what the reviewer decides.
// No library, no build step. Decisions go through an outbox that survives a dead server.

const $ = (id) => document.getElementById(id);
const AHEAD = 4;
const STATE_OF = { accept: "accepted", reject: "rejected", unsure: "unsure" };
const WORD_OF = { open: "open", accepted: "accepted", rejected: "rejected", unsure: "not sure" };
const LARGE = ["before", "after"];

let info = null;
let queue = []; // {id, site, rank, state, ...} in the order of review
let last = 0; // number of the last decision that the queue knows
let position = -1;
let zoom = 1;
let shownAt = 0;
let shown = null; // {detail, images} of the candidate on the page
const loaded = new Map(); // "id@zoom" -> Promise<{detail, images}>
const rows = new Map(); // id -> list item

// ------------------------------------------------------------------ small things

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function area(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} km²`;
  if (value >= 1e4) return `${(value / 1e4).toFixed(value >= 1e5 ? 0 : 1)} ha`;
  return `${Math.round(value).toLocaleString("en")} m²`;
}

let toastTimer = 0;
function toast(words) {
  $("toast").textContent = words;
  $("toast").classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => $("toast").classList.remove("shown"), 2600);
}

function banner(words) {
  $("banner").hidden = !words;
  $("banner").textContent = words || "";
}

function mark(state) {
  const path = { open: null, accepted: "M3 8.5 6.2 12 13 4.5", rejected: "M4 4l8 8M12 4l-8 8",
    unsure: "M5 6a3 3 0 1 1 4.2 2.7c-.8.4-1.2.8-1.2 1.6M8 13v.1" }[state];
  const inner = path ? svg("path", { d: path }) : svg("circle", { cx: 8, cy: 8, r: 3.4 });
  return svg("svg", { class: "mark", viewBox: "0 0 16 16", "aria-label": WORD_OF[state] }, inner);
}

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Thawslump-Review": "1" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, options);
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const said = content.error || `the server answered ${answer.status}`;
    const error = new Error([said, content.hint].filter(Boolean).join(" "));
    error.status = answer.status;
    throw error;
  }
  return content;
}

// ------------------------------------------------------------------ loading ahead

async function load(id) {
  const detail = await ask(`api/candidates/${id}?zoom=${zoom}`);
  const images = new Map();
  await Promise.all(Object.entries(detail.panels).map(async ([panel, address]) => {
    const image = new Image();
    image.alt = info.panels[panel].title;
    image.draggable = false;
    image.src = address;
    // A chip that cannot be drawn leaves its square hatched; the others still show.
    await image.decode().then(() => images.set(panel, image), () => {});
  }));
  return { detail, images };
}

function fetched(id) {
  const key = `${id}@${zoom}`;
  if (!loaded.has(key)) {
    const promise = load(id);
    promise.catch(() => loaded.delete(key));
    loaded.set(key, promise);
    if (loaded.size > 40) loaded.delete(loaded.keys().next().value);
  }
  return loaded.get(key);
}

function forget(id) {
  for (const key of [...loaded.keys()]) if (key.startsWith(`${id}@`)) loaded.delete(key);
}

function prefetch() {
  const wanted = [];
  for (let i = position + 1; i < queue.length && wanted.length < AHEAD; i += 1) {
    if (queue[i].state === "open") wanted.push(queue[i].id);
  }
  if (position + 1 < queue.length) wanted.push(queue[position + 1].id);
  if (position > 0) wanted.push(queue[position - 1].id);
  // One after the other: the nearest first, never in the way of the one that is asked for.
  wanted.reduce((before, id) => before.then(() => fetched(id).catch(() => {})), Promise.resolve());
}

// ------------------------------------------------------------------ showing

function overlay(detail) {
  const lines = svg("svg", { viewBox: "0 0 1000 1000", "aria-hidden": "true" });
  for (const d of detail.others) lines.append(svg("path", { class: "other", d }));
  for (const d of detail.known) lines.append(svg("path", { class: "known", d }));
  lines.append(svg("path", { class: "halo", d: detail.outline }));
  lines.append(svg("path", { class: "this", d: detail.outline }));
  return lines;
}

function scaleBar(metres) {
  const nice = [20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
  const length = nice.findLast((m) => m <= metres * 0.3) || nice[0];
  const bar = make("div", { class: "scale" }, length >= 1000 ? `${length / 1000} km` : `${length} m`);
  bar.style.width = `${(100 * length) / metres}%`;
  return bar;
}

function figure(panel, part, large) {
  const about = info.panels[panel];
  const site = info.sites[part.detail.site] || {};
  const dates = panel === "before" ? site.pre : panel === "after" ? site.post : null;
  const caption = make("figcaption", { title: about.legend }, make("b", {}, about.title));
  if (dates) caption.append(make("span", {}, dates.replace(" .. ", " – ")));
  const frame = make("div", { class: "frame", "data-panel": panel });
  const image = part.images.get(panel);
  if (image) frame.append(image);
  frame.append(overlay(part.detail));
  if (large) frame.append(scaleBar(part.detail.metres));
  return make("figure", {}, caption, frame);
}

function attribute(name, value, share) {
  const data = make("dd", {});
  if (share !== undefined) {
    const fill = make("i");
    fill.style.width = `${Math.min(100, 100 * share)}%`;
    data.append(make("span", { class: "bar-of" }, fill));
  }
  data.append(value);
  return [make("dt", {}, name), data];
}

function describe(detail) {
  const state = queue[position].state;
  $("title").textContent = `Candidate ${detail.rank}`;
  $("subtitle").textContent = `${detail.site} · ${detail.id.slice(0, 8)}`;
  $("state").textContent = WORD_OF[state];
  $("state").className = `state ${state}`;
  $("made-up").hidden = !detail.made_up;
  $("attributes").replaceChildren(
    ...attribute("Area", area(detail.area_m2)),
    ...attribute("Probability", detail.probability_mean.toFixed(2), detail.probability_mean),
    ...attribute("Highest pixel", detail.probability_max.toFixed(2), detail.probability_max),
    ...attribute("Disagreement", detail.disagreement.toFixed(3), detail.disagreement / 0.5),
    ...attribute("Filled bands", `${Math.round(100 * detail.filled)} %`, detail.filled),
    ...attribute("Teaches", detail.score.toFixed(2), detail.score),
    ...attribute("Lat, lon", `${detail.lat.toFixed(5)}, ${detail.lon.toFixed(5)}`),
    ...attribute("Image side", `${Math.round(detail.metres).toLocaleString("en")} m`),
  );
  const told = detail.history.map((d) => {
    const who = d.kind === "scripted" ? "the scripted reviewer" : d.reviewer;
    const words = `${WORD_OF[STATE_OF[d.decision]] || d.decision}${d.edited ? ", corrected," : ""} by ${who}`;
    const when = d.time.slice(0, 16).replace("T", " ");
    return make("li", { class: d.taken_back ? "taken-back" : "", title: d.note || "" },
      make("span", {}, words), make("span", { class: "when" }, when));
  });
  $("history").hidden = told.length === 0;
  $("history").querySelector("ol").replaceChildren(...told);
  $("scripted").hidden = info.kind !== "scripted"
    && !detail.history.some((d) => d.kind === "scripted");
}

// ------------------------------------------------------------------ correcting an outline

// A ring of [x, y] in the square of 1000 x 1000 while the reviewer corrects it, else null.
let ring = null;
let changed = false;

function simplified(points, tolerance) {
  // Douglas-Peucker on an open line.
  if (points.length < 3) return points;
  const [a, b] = [points[0], points.at(-1)];
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
  let worst = 0;
  let at = 0;
  for (let i = 1; i < points.length - 1; i += 1) {
    const [x, y] = points[i];
    const off = Math.abs((b[0] - a[0]) * (a[1] - y) - (a[0] - x) * (b[1] - a[1])) / length;
    const far = a[0] === b[0] && a[1] === b[1] ? Math.hypot(x - a[0], y - a[1]) : off;
    if (far > worst) { worst = far; at = i; }
  }
  if (worst <= tolerance) return [a, b];
  return [...simplified(points.slice(0, at + 1), tolerance).slice(0, -1),
    ...simplified(points.slice(at), tolerance)];
}

function firstRing(path) {
  const text = path.slice(1, path.indexOf("Z"));
  return text.split(" ").map((pair) => pair.split(",").map(Number));
}

function correct(on) {
  if (!on) {
    ring = null;
    document.body.classList.remove("editing");
    draw();
    return;
  }
  if (!shown || ring) return;
  const pixel = 1000 / shown.detail.pixels;
  const points = firstRing(shown.detail.outline);
  ring = simplified([...points, points[0]], 0.8 * pixel).slice(0, -1);
  changed = false;
  document.body.classList.remove("no-outline");
  document.body.classList.add("editing");
  draw();
}

function ringPath(points) {
  return `M${points.map((p) => p.map((v) => v.toFixed(1)).join(",")).join(" ")}Z`;
}

function draw() {
  for (const lines of document.querySelectorAll(".frame svg")) {
    const path = ring ? ringPath(ring) : shown.detail.outline;
    lines.querySelector(".this").setAttribute("d", path);
    lines.querySelector(".halo").setAttribute("d", path);
    lines.querySelectorAll("circle").forEach((c) => c.remove());
    if (ring && lines.closest(".pair")) {
      ring.forEach(([cx, cy], i) => lines.append(svg("circle", { cx, cy, r: 7, "data-index": i })));
    }
  }
}

function place(frame, event) {
  const box = frame.getBoundingClientRect();
  return [(1000 * (event.clientX - box.left)) / box.width,
    (1000 * (event.clientY - box.top)) / box.height].map((v) => Math.min(1000, Math.max(0, v)));
}

$("pair").addEventListener("pointerdown", (event) => {
  const frame = event.target.closest(".frame");
  if (!ring || !frame || event.button !== 0) return;
  event.preventDefault();
  frame.setPointerCapture(event.pointerId);
  const index = event.target.dataset?.index;
  const before = ring;
  const line = [place(frame, event)];
  const move = (moved) => {
    if (index !== undefined) {
      ring = before.with(Number(index), place(frame, moved));
    } else {
      line.push(place(frame, moved));
      if (line.length > 3) ring = line;
    }
    changed = true;
    draw();
  };
  const up = () => {
    frame.removeEventListener("pointermove", move);
    if (index === undefined && line.length > 3) {
      const drawn = simplified([...line, line[0]], 3).slice(0, -1);
      ring = drawn.length >= 3 ? drawn : before;
    }
    draw();
  };
  frame.addEventListener("pointermove", move);
  frame.addEventListener("pointerup", up, { once: true });
  frame.addEventListener("pointercancel", up, { once: true });
});
$("pair").addEventListener("dblclick", (event) => {
  const index = event.target.dataset?.index;
  if (!ring || index === undefined || ring.length <= 3) return;
  ring = ring.toSpliced(Number(index), 1);
  changed = true;
  draw();
});

let token = 0;
async function show(index, since = performance.now()) {
  const mine = ++token;
  if (ring) correct(false);
  position = index;
  current();
  let part;
  try {
    part = await fetched(queue[index].id);
  } catch (error) {
    if (mine === token) banner(`This candidate could not be loaded: ${error.message}`);
    return;
  }
  if (mine !== token) return;
  if (!outbox.length) banner("");
  shown = part;
  const there = (panel) => panel in part.detail.panels;
  $("pair").replaceChildren(...LARGE.filter(there).map((p) => figure(p, part, true)));
  const small = Object.keys(info.panels).filter((p) => there(p) && !LARGE.includes(p));
  $("strip").replaceChildren(...small.map((p) => figure(p, part, false)));
  describe(part.detail);
  $("note").value = "";
  shownAt = performance.now();
  document.body.dataset.candidate = part.detail.id;
  requestAnimationFrame(() => {
    // The message arrives after the frame is painted.
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      performance.measure("next-candidate", { start: since, end: performance.now() });
      document.body.dataset.painted = part.detail.id;
      prefetch();
    };
    port2.postMessage(0);
  });
}

function current() {
  for (const [id, row] of rows) {
    const here = id === queue[position]?.id;
    if ((row.getAttribute("aria-current") === "true") !== here) {
      row.setAttribute("aria-current", String(here));
      if (here) row.scrollIntoView({ block: "nearest" });
    }
  }
}

function listed() {
  rows.clear();
  $("queue").replaceChildren(...queue.map((c, index) => {
    const row = make("li", { title: `${c.site}, mean probability ${c.probability.toFixed(2)}` });
    row.addEventListener("click", () => show(index));
    rows.set(c.id, row);
    refresh(c);
    return row;
  }));
  counted();
}

function refresh(candidate) {
  const row = rows.get(candidate.id);
  row.className = candidate.state === "open" ? "" : `decided ${candidate.state}`;
  row.replaceChildren(
    mark(candidate.state),
    make("span", { class: "rank" }, String(candidate.rank)),
    make("span", { class: "size" }, area(candidate.area_m2)),
  );
}

function counted() {
  const number = { accepted: 0, rejected: 0, unsure: 0, open: 0 };
  for (const c of queue) number[c.state] += 1;
  const decided = queue.length - number.open;
  const saving = outbox.length ? ` · ${outbox.length} being saved` : "";
  $("progress-words").textContent = `${decided} of ${queue.length} decided${saving}`;
  $("queue-count").textContent = number.open ? `${number.open} open`
    : queue.length ? "all decided" : "none";
  for (const state of ["accepted", "rejected", "unsure"]) {
    const bar = document.querySelector(`.meter i.${state}`);
    bar.style.width = `${queue.length ? (100 * number[state]) / queue.length : 0}%`;
  }
  document.body.dataset.decided = decided;
  document.body.dataset.waiting = outbox.length;
  return number;
}

function setState(id, state) {
  const candidate = queue.find((c) => c.id === id);
  if (!candidate || candidate.state === state) return;
  candidate.state = state;
  refresh(candidate);
  counted();
}

// ------------------------------------------------------------------ outbox

let outbox = [];
let sending = false;
let resolveIdle = [];

function keep() {
  localStorage.setItem(`thawslump.outbox.${info.id}`, JSON.stringify(outbox));
}

function post(message) {
  outbox.push(message);
  keep();
  counted();
  send();
}

async function send() {
  if (sending) return;
  sending = true;
  while (outbox.length) {
    const { path, body, note } = outbox[0];
    try {
      const answer = await ask(path, body);
      banner("");
      outbox.shift();
      keep();
      answered(answer, note);
    } catch (error) {
      if (error.status && error.status < 500) {
        // Refused for good: say so, and show what holds now.
        outbox.shift();
        keep();
        toast(error.message);
        await reload();
      } else {
        const what = error.status ? error.message : "The server does not answer.";
        const many = outbox.length === 1 ? "One decision is" : `${outbox.length} decisions are`;
        banner(`${what} ${many} kept in this browser and sent again.`);
        await new Promise((wake) => setTimeout(wake, 700));
      }
    }
    counted();
  }
  sending = false;
  resolveIdle.forEach((f) => f());
  resolveIdle = [];
}

function answered(answer, note) {
  if (note === "undo") {
    if (!answer.candidate) {
      toast("There is nothing of yours to undo in this round.");
      return;
    }
    forget(answer.candidate);
    setState(answer.candidate, answer.state);
    toast("Undone.");
    const index = queue.findIndex((c) => c.id === answer.candidate);
    if (index >= 0) show(index);
    return;
  }
  forget(answer.candidate);
  // A later decision on the same candidate may already stand in the outbox.
  if (!outbox.some((m) => m.body.candidate === answer.candidate)) {
    setState(answer.candidate, answer.state);
  }
}

async function take() {
  const fresh = await ask(`api/queue?round=${info.round}`);
  queue = fresh.candidates;
  last = fresh.last;
}

// What other reviewers decide meanwhile shows in the list, and on the page if it is about this one.
async function follow() {
  if (document.hidden || outbox.length || !queue.length) return;
  const fresh = await ask(`api/changes?round=${info.round}&after=${last}`).catch(() => null);
  if (!fresh || outbox.length) return;
  last = fresh.last;
  for (const [id, state] of Object.entries(fresh.states)) {
    const known = queue.find((c) => c.id === id);
    if (!known || known.state === state) continue;
    forget(id);
    setState(id, state);
    if (id === shown?.detail.id && id === queue[position]?.id) {
      toast(`Somebody else decided meanwhile: ${WORD_OF[state]}.`);
      if (!ring) show(position);
    }
  }
}

async function reload() {
  try {
    const here = queue[position]?.id;
    await take();
    loaded.clear();
    listed();
    const index = queue.findIndex((c) => c.id === here);
    if (queue.length) await show(index >= 0 ? index : 0);
  } catch (error) {
    banner(error.message);
  }
}

// ------------------------------------------------------------------ deciding

function nextOpen(from, step) {
  for (let i = 1; i <= queue.length; i += 1) {
    const index = (((from + step * i) % queue.length) + queue.length) % queue.length;
    if (index !== from && queue[index].state === "open") return index;
  }
  return -1;
}

function decide(decision, since) {
  // Only what is on the page is decided: never the one that is still loading.
  const candidate = queue[position];
  if (!candidate || !shown || shown.detail.id !== candidate.id) return;
  const reviewer = $("reviewer").value.trim();
  if (!reviewer) { who(); return; }
  const body = {
    candidate: candidate.id, decision, reviewer, request: crypto.randomUUID?.() ?? unique(),
    expected: candidate.state, seconds: Math.round(performance.now() - shownAt) / 1000,
  };
  if (ring && changed && decision === "accept") {
    body.drawn = ring;
    body.zoom = zoom;
  }
  if ($("note").value.trim()) body.note = $("note").value.trim();
  setState(candidate.id, STATE_OF[decision]);
  forget(candidate.id);
  post({ path: "api/decisions", body, note: "decide" });
  const next = nextOpen(position, 1);
  if (next >= 0) show(next, since);
  else finished();
}

function unique() {
  // randomUUID exists in secure contexts only; a page behind a token may be plain HTTP.
  return [...crypto.getRandomValues(new Uint8Array(16))]
    .map((b) => b.toString(16).padStart(2, "0")).join("");
}

function undo() {
  if (!queue.length) return;
  const reviewer = $("reviewer").value.trim();
  if (!reviewer) { who(); return; }
  if ($("done").open) $("done").close();
  const body = { reviewer, round: info.round, request: crypto.randomUUID?.() ?? unique() };
  post({ path: "api/undo", body, note: "undo" });
}

function move(step, open, since) {
  if (!queue.length) return;
  const index = open ? nextOpen(position, step) : position + step;
  if (index >= 0 && index < queue.length) show(index, since);
  else toast(open ? "No other candidate is open." : "This is the end of the list.");
}

function finished() {
  const number = counted();
  if (position >= 0 && queue[position]) show(position);
  const unsure = number.unsure ? `, ${number.unsure} not sure` : "";
  $("done-title").textContent = `Round ${info.round} is decided`;
  $("done-words").textContent = `${number.accepted} accepted, ${number.rejected} rejected${unsure}.`;
  if (!$("done").open) $("done").showModal();
}

function who() {
  $("who-name").value = $("reviewer").value || info.reviewer || "";
  if (!$("who").open) $("who").showModal();
  $("who-name").select();
}

function blink(on) {
  if (!shown || document.body.classList.contains("blink") === on) return;
  const [first, second] = ["before", "after"].map((p) => document.querySelector(`.pair [data-panel="${p}"]`));
  const one = shown.images.get("before");
  const two = shown.images.get("after");
  if (!first || !second || !one || !two) return;
  document.body.classList.toggle("blink", on);
  first.prepend(on ? two : one);
  second.prepend(on ? one : two);
}

function closer(factor) {
  const wanted = Math.min(4, Math.max(0.25, zoom * factor));
  if (wanted === zoom) return;
  zoom = wanted;
  show(position);
}

// ------------------------------------------------------------------ keys and buttons

const KEYS = {
  a: (t) => decide("accept", t), enter: (t) => decide("accept", t),
  r: (t) => decide("reject", t), x: (t) => decide("reject", t),
  d: (t) => decide("unsure", t),
  n: (t) => move(1, true, t), p: (t) => move(-1, true, t),
  arrowright: (t) => move(1, false, t), arrowleft: (t) => move(-1, false, t),
  u: () => undo(),
  " ": () => document.body.classList.toggle("no-outline"),
  "+": () => closer(2), "=": () => closer(2), "-": () => closer(0.5),
  t: () => $("note").focus(),
  e: () => correct(!ring), escape: () => { if (ring) correct(false); },
  "?": () => $("help").showModal(),
};
const REPEATS = ["n", "p", "arrowright", "arrowleft"];

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input");
  if (typing && (event.key === "Escape" || event.key === "Enter") && !event.target.closest("dialog")) {
    event.target.blur();
    event.preventDefault();
    return;
  }
  if (typing) return;
  const key = event.key.toLowerCase();
  if (document.querySelector("dialog[open]")) {
    if (key === "u" && $("done").open) undo();
    return;
  }
  // A button that was reached with the Tab key keeps its own Enter and Space.
  if (event.target.matches("button") && (key === "enter" || key === " ")) return;
  if (key === "b") { blink(true); return; }
  const action = KEYS[key];
  if (!action || (event.repeat && !REPEATS.includes(key))) return;
  event.preventDefault();
  action(event.timeStamp);
});
document.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "b") blink(false); });
window.addEventListener("blur", () => blink(false));
document.addEventListener("click", (event) => {
  // After a click with the mouse, Space and Enter are review keys again.
  const button = event.target.closest("button");
  if (button && event.detail > 0) button.blur();
});

for (const decision of ["accept", "reject", "unsure"]) {
  $(decision).addEventListener("click", (event) => decide(decision, event.timeStamp));
}
$("next").addEventListener("click", (event) => move(1, true, event.timeStamp));
$("previous").addEventListener("click", (event) => move(-1, true, event.timeStamp));
$("undo").addEventListener("click", undo);
$("correct").addEventListener("click", () => correct(!ring));
$("round").addEventListener("change", () => {
  location.hash = $("round").value;
  location.reload();
});
$("help-button").addEventListener("click", () => $("help").showModal());
$("who").addEventListener("close", () => {
  $("reviewer").value = $("who-name").value.trim();
  localStorage.setItem("thawslump.reviewer", $("reviewer").value);
});
$("reviewer").addEventListener("change", () => {
  localStorage.setItem("thawslump.reviewer", $("reviewer").value.trim());
});

// ------------------------------------------------------------------ begin

async function begin() {
  try {
    info = await ask("api/info");
    // A reload stays in the round that was chosen.
    const chosen = Number(location.hash.slice(1));
    if (info.rounds.includes(chosen)) info.round = chosen;
    await take();
  } catch (error) {
    banner(`The server does not answer: ${error.message}`);
    setTimeout(begin, 1000);
    return;
  }
  banner("");
  document.title = `${info.workspace} · thawslump review`;
  $("workspace").textContent = info.workspace;
  $("round").replaceChildren(...info.rounds.map((n) => {
    const option = make("option", { value: n }, `round ${n}`);
    option.selected = n === info.round;
    return option;
  }));
  $("round").disabled = info.rounds.length < 2;
  $("made-up").hidden = !info.made_up;
  $("reviewer").value = localStorage.getItem("thawslump.reviewer") || "";
  outbox = JSON.parse(localStorage.getItem(`thawslump.outbox.${info.id}`) || "[]");
  listed();
  if (outbox.length) {
    // Decisions of an earlier visit that the server never answered.
    const idle = new Promise((done) => resolveIdle.push(done));
    send();
    await idle;
    await take();
    listed();
  }
  if (!queue.length) {
    $("title").textContent = "No candidates";
    $("subtitle").textContent = "This round has none. Start thawslump run to compute them.";
    return;
  }
  const open = queue.findIndex((c) => c.state === "open");
  if (open >= 0 && !$("reviewer").value) who();
  await show(open >= 0 ? open : 0);
  if (open < 0) finished();
  setInterval(follow, 5000);
}

begin();
