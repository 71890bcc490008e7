// The studio's page. `page` is all that it knows, `view` what that looks like, and the loop at the end asks the back end
// (backend.js) for one step after the other. What the messages say is told at the head of session.py.
import { connect } from "./backend.js";
import { SIDE, imageOf } from "./frames.js";
import htm from "./vendor/htm.mjs";
import { h, render } from "./vendor/preact.mjs";

const html = htm.bind(h);
const CAPTIONS = {
  dream: ["Started from", "… as the VAE sees it", "Dream"],
  game: ["Real game", "What the VAE sees", "What the MDN-RNN expected"],
  planet: ["Started from", "… as the RSSM sees it", "PlaNet's dream"],
};
const PLAYED = { dream: 2, game: 0, planet: 2 }; // the picture of what happens
const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
  KeyA: "left", KeyD: "right", KeyW: "up", KeyS: "down",
};
const ARROWS = { left: "←", right: "→", up: "↑", down: "↓" };

const page = {
  games: [], // [{name, title, lacking}]
  worlds: [], // that there are
  about: null, // the open game, as the back end tells it
  world: "dream",
  driver: "you",
  frame: 0, // the real frame that dreams start from
  seed: null, // of the noise of this dream or game
  temperature: 1,
  speed: 30, // steps per second
  held: {}, // {dimension: value} of z
  fader: 0, // the one that Tab reaches
  running: false,
  now: null, // the latest {steps, score, over, z, action}
  busy: "Opening the studio",
  share: null, // of the weights, while they are loaded
  failed: "", // why there is nothing to play
};
const pressed = new Set(); // keys that are held down
const byId = (id) => document.getElementById(id);

function set(changes) {
  Object.assign(page, changes);
  render(view(), byId("app"));
}

function say(text, fades = true) {
  const status = byId("status");
  status.textContent = text;
  status.getAnimations().forEach((animation) => animation.cancel());
  if (fades) status.animate({ opacity: [1, 1, 0], offset: [0, 0.9, 1] }, { duration: 4500, fill: "forwards" });
}

// --- asking the back end ---

let backend;
let latest; // promise of its last answer

function ask(message) {
  latest = backend.ask(message).then((answer) => {
    if (answer.error) {
      set({ running: false });
      say(`Error: ${answer.error}`, false);
    }
    return answer;
  });
  return latest;
}

function lost(reason) {
  set({ running: false, busy: page.about ? reason : "", failed: reason });
  say(reason, false);
}

// --- doing things ---

async function open(name, wish = {}) {
  set({ running: false, busy: "Loading the VAE and the MDN-RNN", share: null });
  await latest; // a last step still needs the panels that now go
  set({ about: null, now: null, failed: "" });
  const about = await ask({ do: "open", game: name });
  if (about.error) return set({ busy: "", failed: about.error });
  const { odd, temperature = about.temperature, frame = 0, driver = "you", seed } = granted(wish, about);
  set({ about, temperature, frame, driver, seed, held: {}, fader: 0, share: null, busy: "" });
  await start({ world: "dream" }, seed);
  if (odd.length) say(`What the link says of ${odd.join(" and ")} does not fit ${about.title}.`);
}

async function start(changes = {}, seed = randomSeed()) {
  const { world, frame } = { ...page, ...changes };
  set({ world, frame, running: false, busy: world === "game" ? "Starting the game" : "Falling asleep" });
  pressed.clear();
  const answer = await ask({ do: "start", world, frame, seed, ...controls() });
  set({ busy: "" });
  if (answer.error) return;
  set({ seed: answer.seed });
  show(answer);
  toStage();
  remember();
  say(`${world === "game" ? "The game" : "The dream"} is ready.`);
}

function randomSeed() {
  const [low, high] = page.about.seeds;
  return low + Math.floor(Math.random() * (high + 1 - low));
}

const controls = () => ({ temperature: page.temperature, held: page.held });

function show(answer) {
  if (answer.error) return;
  for (const k of [0, 1, 2]) {
    const rgb = answer.payload.subarray(k * SIDE * SIDE * 3, (k + 1) * SIDE * SIDE * 3);
    byId(`panel${k}`).getContext("2d").putImageData(imageOf(rgb), 0, 0);
  }
  const over = answer.over && !page.now?.over;
  set({ now: { ...answer, payload: null } });
  if (over) {
    set({ running: false });
    say(`Over after ${progress()}. Space starts again.`);
  }
}

const points = (score) => score.toFixed(Number.isInteger(score) ? 0 : 1);

const rewarded = () => page.world !== "dream" || page.about.dream_rewards;

const progress = () => `${page.now.steps} steps${rewarded() ? `, reward ${points(page.now.score)}` : ""}`;

async function step() {
  show(await ask({ do: "step", driver: page.driver, keys: [...pressed], ...controls() }));
}

async function run(running) {
  if (page.busy || !page.now || page.now.over) return;
  set({ running });
  if (running) {
    byId("stage").focus();
    say("Running.");
  } else {
    await latest; // the last step is still on its way
    if (!page.now.over) say(`Paused after ${progress()}.`);
  }
}

async function startAgain() {
  await start();
  await run(true);
}

const unlessBusy = (act) => (page.busy ? set({}) : act()); // set({}) puts the choice back; disabled, it would lose focus

let look = false; // whether a control has moved while nothing runs

function hold(dimension, value) {
  set({ held: { ...page.held, [dimension]: value } });
  look = true;
}

function letGo(dimension) {
  const { [dimension]: _, ...held } = page.held;
  set({ held: dimension === undefined ? {} : held });
  look = true;
}

function sow(field) {
  if (field.checkValidity() && field.value) return start({ world: "dream" }, Number(field.value));
  say(`A seed is a whole number from ${page.about.seeds.join(" to ")}.`);
  field.value = page.seed;
}

async function saveGif() {
  const { running } = page;
  set({ running: false });
  say("Making the GIF.");
  const { frames, payload, error } = await ask({ do: "gif" });
  if (error) return;
  if (running && !page.busy) set({ running }); // busy: another game has been chosen meanwhile
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([payload], { type: "image/gif" }));
  link.download = `${page.about.name}-${page.world}.gif`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  say(`Saved ${link.download}, ${frames} frames.`);
}

// --- the link: this dream, for a friend ---

const linkOf = () => `${location.href.split("#")[0]}#${new URLSearchParams({
  game: page.about.name, frame: page.frame, temperature: page.temperature, seed: page.seed, driver: page.driver,
})}`;

function remember() {
  if (page.world === "dream") history.replaceState(null, "", linkOf());
}

async function copyLink() {
  remember();
  try {
    await navigator.clipboard.writeText(linkOf());
    say("Copied the link to this dream.");
  } catch { // not over plain http, or not allowed
    say("The address of this page is the link to this dream.");
  }
}

const wished = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

/** What of a link's wishes can be had in this game, and the names of the others. */
function granted(wish, about) {
  const whole = ([low, high]) => (value) => /^\d+$/.test(value) && value >= low && value <= high;
  const [coldest, hottest] = about.temperatures;
  const fits = {
    frame: whole([0, about.frames.length - 1]),
    seed: whole(about.seeds),
    temperature: (value) => value.trim() && value >= coldest && value <= hottest,
    driver: (value) => value === "you" || (value === "agent" && !about.no_agent),
  };
  const names = Object.keys(fits).filter((name) => name in wish);
  const had = names.filter((name) => fits[name](wish[name]));
  const values = had.map((name) => [name, name === "driver" ? wish[name] : Number(wish[name])]);
  return { ...Object.fromEntries(values), odd: names.filter((name) => !had.includes(name)) };
}

async function follow(wish) {
  const offered = page.games.filter((game) => !game.lacking);
  const game = offered.find(({ name }) => name === wish.game);
  if (game) return open(game.name, wish);
  if (!page.about && offered.length) await open(offered[0].name);
  if (wish.game) say(`The link's game, ${wish.game.slice(0, 40)}, is not here.`);
}

window.addEventListener("hashchange", () => page.games.length && !page.busy && follow(wished()));

// --- keys and fingers ---

function press(key) {
  if (!(key in (page.about?.keys ?? {})) || pressed.has(key)) return;
  pressed.add(key);
  if (page.driver !== "you") set({ driver: "you" });
  if (!page.running && page.now && !page.busy) step(); // standing still, every press is one step
  set({});
}

function release(key) {
  pressed.delete(key);
  set({});
}

// What a pointer has chosen needs the keyboard no longer: the keys are for driving again. Who came by Tab stays.
let pointed = false; // whether the latest choice is a pointer's
document.addEventListener("pointerdown", () => { pointed = true; }, true);
document.addEventListener("keydown", () => { pointed = false; }, true);

const toStage = () => pointed && byId("stage")?.focus();

for (const chosen of ["click", "change"]) {
  document.addEventListener(chosen, ({ target }) => {
    if (target.closest("button, label, input") && !target.closest(".faders, .seed")) toStage();
  });
}

document.addEventListener("keydown", (event) => {
  const within = event.target.closest("input, button, summary, a");
  const takesSpace = event.target.closest("button, summary, a, input[type=radio]:not(:checked)");
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.code === "Space" ? !takesSpace : event.key === "Enter" && !within) {
    event.preventDefault();
    if (event.repeat || page.busy) return;
    if (page.now?.over) startAgain();
    else run(!page.running);
  } else if (event.code in KEYS && within?.tagName !== "INPUT") {
    if (KEYS[event.code] in (page.about?.keys ?? {})) event.preventDefault(); // no scrolling while driving
    press(KEYS[event.code]);
  }
});
document.addEventListener("keyup", (event) => release(KEYS[event.code]));
window.addEventListener("blur", () => {
  pressed.clear();
  set({});
});

function fader(event, k) {
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (way) {
    event.preventDefault();
    const next = (k + way + page.about.z_size) % page.about.z_size;
    set({ fader: next });
    byId(`z${next}`).focus();
  } else if (["Delete", "Backspace", "Escape"].includes(event.key)) {
    event.preventDefault();
    letGo(k);
  }
}

// --- what it looks like ---

function choice(name, value, text, disabled = false, changed = set) {
  return html`<label class="choice">
    <input type="radio" name=${name} value=${value} checked=${page[name] === value} disabled=${disabled}
      aria-disabled=${Boolean(page.busy)} onChange=${() => unlessBusy(() => changed({ [name]: value }))} />
    <span>${text}</span>
  </label>`;
}

function header() {
  return html`<header>
    <div>
      <h1>World Models <span>studio</span></h1>
      <p class="lead">A neural network has watched a game. Now it dreams, and you can play in its dream.</p>
    </div>
    <fieldset class="row">
      <legend class="hidden">Game</legend>
      ${page.games.map((game) => html`<label class="choice">
        <input type="radio" name="game" value=${game.name} checked=${page.about?.name === game.name}
          disabled=${Boolean(game.lacking)} aria-disabled=${Boolean(page.busy)}
          onChange=${() => unlessBusy(() => open(game.name))} />
        <span>${game.title}${game.lacking && html` <small>(${game.lacking})</small>`}</span>
      </label>`)}
    </fieldset>
  </header>`;
}

function stage() {
  const { about, world, now } = page;
  const waits = now?.steps === 0 && !page.running && !page.busy;
  const over = now?.over && html`<strong class="over">Over: ${progress()}. <span>Space: again</span></strong>`;
  return html`<section id="stage" tabindex="0" role="application" aria-label=${`Stage. ${about.goal} Arrow keys drive: ${
    Object.entries(about.keys).map(([key, does]) => `${key}, ${does}`).join("; ")}. Space runs and pauses.`}>
    ${CAPTIONS[world].map((caption, k) => html`<figure class=${k === PLAYED[world] ? "played" : ""}
      onClick=${k === PLAYED[world] && (() => (now?.over ? startAgain() : run(!page.running)))}>
      <canvas id=${`panel${k}`} width=${SIDE} height=${SIDE} role="img" aria-label=${caption}></canvas>
      ${k === PLAYED[world] && (over || (waits && html`<span class="begin" aria-hidden="true">▶</span>`))}
      <figcaption>${caption}</figcaption>
    </figure>`)}
  </section>`;
}

function transport() {
  const { about, world, now, running, busy } = page;
  const idle = Boolean(busy) || !now;
  return html`<section class="transport" aria-label="Play">
    <div class="row">
      <button id="run" class="main" disabled=${idle || now.over} onClick=${() => run(!running)}>
        ${running ? "Pause" : "Start"}</button>
      <button id="again" disabled=${idle} onClick=${startAgain}>Start again</button>
      <button id="one" disabled=${idle || running || now.over} onClick=${step}>One step</button>
    </div>
    ${pad()}
    <dl class="figures">
      ${rewarded() && html`<div><dt>Reward</dt><dd id="reward">${now ? points(now.score) : "–"}</dd></div>`}
      ${now?.expected !== undefined && html`<div title="The sum of what the MDN-RNN expected each step to pay">
        <dt>Expected</dt><dd id="expected">${now.expected.toFixed(1)}</dd></div>`}
      <div><dt>Step</dt><dd id="steps">${now ? now.steps : "–"}</dd></div>
      ${Object.entries(about.actions).map(([name, least], k) => html`<div class="action"><dt>${name}</dt>
        <dd>${now?.action ? now.action[k].toFixed(2) : "–"}
        <i class=${least < 0 ? "" : "from-left"} aria-hidden="true" style=${{ "--value": now?.action?.[k] ?? 0 }}></i>
        </dd></div>`)}
    </dl>
    <p class="note keys">Arrow keys drive; Space starts and pauses.</p>
    <div class="row share" role="group" aria-label="Keep or share">
      ${world === "dream" && html`<label class="seed">Seed
        <input type="number" id="seed" min=${about.seeds[0]} max=${about.seeds[1]} step="1" value=${page.seed}
          onChange=${(event) => unlessBusy(() => sow(event.target))} />
      </label>
      <button id="link" disabled=${idle} onClick=${copyLink}>Copy link</button>`}
      <button id="gif" disabled=${idle} onClick=${saveGif}>Save GIF</button>
    </div>
  </section>`;
}

function pad() {
  return html`<div class="pad" role="group" aria-label="Drive by touch">
    ${Object.entries(page.about.keys).map(([key, does]) => html`<button class=${pressed.has(key) ? "held" : ""}
      aria-label=${does} onPointerDown=${(event) => { event.target.setPointerCapture(event.pointerId); press(key); }}
      onPointerUp=${() => release(key)} onPointerCancel=${() => release(key)}
      onKeyDown=${(event) => ["Enter", " "].includes(event.key) && press(key)}
      onKeyUp=${(event) => ["Enter", " "].includes(event.key) && release(key)}
      onContextMenu=${(event) => event.preventDefault()}>
      <span aria-hidden="true">${ARROWS[key]}</span></button>`)}
  </div>`;
}

function drive(changes) {
  set(changes);
  remember();
}

function slider(id, text, hint, low, high, step, beside = "") {
  return html`<div class="slider">
    <label for=${id}>${text} <output for=${id}>${page[id]}</output></label> <small id=${`${id}-beside`}>${beside}</small>
    <input type="range" id=${id} min=${low} max=${high} step=${step} value=${page[id]} aria-describedby=${`${id}-hint`}
      onInput=${(event) => { set({ [id]: Number(event.target.value) }); look = true; }} onChange=${remember} />
    <small id=${`${id}-hint`}>${hint}</small>
  </div>`;
}

function controlPanel() {
  const { about } = page;
  const [low, high] = about.temperatures;
  return html`<section class="panel" aria-label="Controls">
    <h2>${about.goal}</h2>
    <div class="columns">
      ${page.worlds.includes("game") && html`<fieldset class="row"><legend>World</legend>
        ${choice("world", "dream", "Dream", false, start)}
        ${choice("world", "game", "Real game", false, start)}
        ${about.no_planet === "" && choice("world", "planet", "PlaNet's dream", false, start)}
      </fieldset>`}
      <fieldset class=${`row ${page.worlds.length === 1 ? "whole" : ""}`}><legend>Who drives</legend>
        ${choice("driver", "you", "You", false, drive)}
        ${choice("driver", "agent", page.world === "planet" ? "The planner" : "The agent",
          Boolean(about.no_agent) && page.world !== "planet", drive)}
      </fieldset>
      ${slider("temperature", "Temperature", "Low: calm and sure. High: strange.", low, high, 0.05)}
      ${slider("speed", "Steps per second", "Paused, an arrow press is one step.", 5, 50, 1,
        achieved())}
    </div>
    ${about.no_agent && html`<p class="note">No agent can drive: ${about.no_agent}.</p>`}
    <p class="note">Reward: ${about.reward[page.world]}.</p>
  </section>`;
}

function frames() {
  return html`<section class="panel">
    <h2 id="frames-title">Dream on from a real frame</h2>
    <div class="frames" role="radiogroup" aria-labelledby="frames-title">
      ${page.about.frames.map((source, k) => html`<label>
        <input type="radio" name="frame" value=${k} checked=${page.frame === k} aria-disabled=${Boolean(page.busy)}
          onChange=${() => unlessBusy(() => start({ frame: k, world: page.world === "planet" ? "planet" : "dream" }))} />
        <img src=${source} alt=${`Real frame ${k + 1} of ${page.about.frames.length}`} width="64" height="64" />
      </label>`)}
    </div>
  </section>`;
}

function desk() {
  const { about, held, now } = page;
  const count = Object.keys(held).length;
  const z = now?.z ?? [];
  return html`<section class="panel desk">
    <div class="row spread">
      <h2 id="desk-title">z, the ${about.z_size} numbers that are the frame</h2>
      <button id="let-go" disabled=${!count} onClick=${() => letGo()}>Let go of all${count ? ` (${count} held)` : ""}</button>
    </div>
    <p id="desk-hint">Move a fader: its dimension is held there, and the picture follows. Left and right go from fader to
      fader, up and down move one, Delete lets go of it.</p>
    <div class="faders" role="group" aria-labelledby="desk-title" aria-describedby="desk-hint">
      ${z.map((value, k) => html`<div class=${k in held ? "held" : ""}>
        <input type="range" id=${`z${k}`} min=${-about.held} max=${about.held} step="0.1"
          value=${held[k] ?? value} tabindex=${page.fader === k ? 0 : -1} aria-orientation="vertical"
          aria-label=${`z ${k}`} aria-valuetext=${`${(held[k] ?? value).toFixed(1)}${k in held ? ", held" : ""}`}
          onFocus=${() => page.fader !== k && set({ fader: k })} onKeyDown=${(event) => fader(event, k)}
          onDblClick=${() => letGo(k)} onInput=${(event) => hold(k, Number(event.target.value))} />
        <span aria-hidden="true">${k in held && "●"}${k}</span>
      </div>`)}
    </div>
  </section>`;
}

function loading() {
  const { busy, share, failed } = page;
  return html`<main><div class="loading">
    <p>${busy ? `${busy} …${share === null ? "" : ` ${Math.round(100 * share)} %`}` : failed || "Choose a game."}</p>
    ${busy && share !== null && html`<progress max="1" value=${share} aria-label="Loaded"></progress>`}
  </div></main>`;
}

function view() {
  if (!page.about) return html`${header()}${loading()}`;
  const { made } = page.about;
  return html`${header()}
    <main class=${page.world === "game" ? "game" : "dream"} aria-busy=${Boolean(page.busy)}>
      <div class="pictures">${stage()}${transport()}</div>
      <div class="controls">${controlPanel()}${page.world !== "planet" && desk()}${frames()}</div>
    </main>
    <footer>
      <p>The VAE turns a frame into z. The MDN-RNN predicts the next z from z and the action; in a dream, its guess becomes
        the world. The agent acts on z and on the memory of the MDN-RNN. After Ha and Schmidhuber, “World Models”, 2018.</p>
      ${made && html`<p>All of it is computed in this browser; nothing is sent anywhere. Exported on
        ${` ${made.made.slice(0, 10)}`}${made.unverified ? " from files that nothing proves the origin of" : ""}; the MDN-RNN
        is ${made.models.rnn.slice(0, 12)}.</p>`}
    </footer>`;
}

// --- the loop ---

let due = 0, told = 0; // when the next step is, when progress was last told [ms]
let times = []; // of the latest steps [ms]

async function loop() {
  const period = page.running ? 1000 / page.speed : 20;
  due = Math.max(due + period, performance.now() - 4 * period); // catches up with a deadline missed, not with many
  try {
    if (page.running) {
      await step();
      const time = performance.now();
      times = [...times.slice(-30), time];
      if (page.now && time - told > 10000) { // there is none once another game is chosen
        told = time;
        byId("progress").textContent = progress(); // for screen readers only
      }
    } else {
      times = [];
      if (look && page.now && !page.busy) {
        look = false;
        show(await ask({ do: "look", ...controls() }));
      }
    }
  } finally { // whatever fails in one step, the next one comes
    setTimeout(loop, due - performance.now());
  }
}

const achieved = () => (times.length < 2 ? "" : `now ${
  Math.round((1000 * (times.length - 1)) / (times.at(-1) - times[0]))}`);

set({});
backend = await connect({ lost, loading: (share) => set({ share }) }).catch((error) => lost(error.message));
if (backend) set({ games: backend.games, worlds: backend.worlds });
if (page.games.some((game) => !game.lacking)) {
  await follow(wished());
  loop();
} else if (backend) {
  set({ busy: "", failed: "No game has its weights yet." });
}
