// Dreams in a worker, so that the page goes on whatever they cost. It answers the same messages as session.py on the
// server: open, start, step, look, gif. An answer is {about, payload}, in the order of the messages.
import { Dream, Models } from "./dream.js";
import { SIDE } from "./frames.js";
import { Noise } from "./numbers.js";
import { GIFEncoder, applyPalette, quantize } from "./vendor/gifenc.mjs";
import { manifestOf } from "./weights.js";

const GIF = { frames: 600, fps: 30, zoom: 2 };

let models, dream, session;

const ANSWERS = {
  async open({ game }) {
    const manifest = await manifestOf(game);
    models = await Models.load(game, manifest, (share) => postMessage({ share }));
    session = null;
    dream = new Dream(models);
    const { name, title, goal, reward, keys, actions, temperature, temperatures, seeds, held, no_agent, made } = manifest;
    const about = { name, title, goal, reward, keys, actions, temperature, temperatures, seeds, held, no_agent, made,
      dream_rewards: manifest.dream_reward > 0, z_size: manifest.rnn.z_size };
    return { about, payload: models.frames.values.slice() };
  },

  start({ frame, seed, ...controls }) {
    const real = models.frame(frame);
    dream.start(real, new Noise(seed).normal(models.rnn.z_size));
    session = { seed, score: 0, over: false, action: null, real, seen: models.decode(dream.z), kept: [] };
    return look(controls, true, { seed });
  },

  step({ driver, keys, ...controls }) {
    if (!session.over) {
      const { manifest, rnn } = models;
      session.action = driver === "agent" ? models.act(dream) : manifest.keyboard[[...keys].sort().join(" ")];
      const noise = new Noise(session.seed, dream.steps + 1);
      const [uniform, normal] = [noise.uniform(rnn.z_size), noise.normal(rnn.z_size)];
      const [chance] = noise.uniform(1);
      session.over = dream.step(session.action, controls.temperature, { uniform, normal, chance });
      session.score += manifest.dream_reward;
    }
    return look(controls, true);
  },

  look: (controls) => look(controls, false),

  gif() {
    const gif = GIFEncoder();
    const [width, height] = [3 * SIDE * GIF.zoom, SIDE * GIF.zoom];
    for (const frames of session.kept) {
      const pixels = new Uint8Array(3 * SIDE * SIDE * 4).fill(255); // of the three frames, as red, green, blue, 255
      for (let i = 0, j = 0; i < frames.length; i += 3, j += 4) pixels.set(frames.subarray(i, i + 3), j);
      const palette = quantize(pixels, 256);
      const small = applyPalette(pixels, palette);
      const large = new Uint8Array(width * height);
      for (let y = 0, to = 0; y < height; y++) {
        for (let x = 0; x < width; x++, to++) {
          const [column, row] = [Math.floor(x / GIF.zoom), Math.floor(y / GIF.zoom)];
          large[to] = small[(Math.floor(column / SIDE) * SIDE + row) * SIDE + (column % SIDE)];
        }
      }
      gif.writeFrame(large, width, height, { palette, delay: Math.round(1000 / GIF.fps) });
    }
    gif.finish();
    return { about: { frames: session.kept.length }, payload: gif.bytes() };
  },
};

/** Where things stand, once the dimensions of z that are held are where they are held. */
function look({ held }, keep, more = {}) {
  for (const [k, value] of Object.entries(held)) dream.z[k] = value;
  const frames = new Uint8Array(3 * session.real.length);
  [session.real, session.seen, models.decode(dream.z)].forEach((frame, k) => frames.set(frame, k * frame.length));
  if (keep && !session.over) session.kept = [...session.kept.slice(1 - GIF.frames), frames.slice()];
  const rounded = (values) => Array.from(values, (value) => Math.round(1000 * value) / 1000);
  const action = session.action && rounded(session.action);
  const about = { steps: dream.steps, score: session.score, over: session.over, action, z: rounded(dream.z), ...more };
  return { about, payload: frames };
}

let last = Promise.resolve(); // messages are answered one after the other

onmessage = ({ data: message }) => {
  last = last.then(async () => {
    try {
      const { about, payload } = await ANSWERS[message.do](message);
      postMessage({ about, payload }, [payload.buffer]);
    } catch (error) {
      postMessage({ about: { error: error.message }, payload: new Uint8Array() });
    }
  });
};
