// The dream of one game, in the browser: what common/worlds/dream.py and common/agent/ do, on exported weights.
import { SIDE } from "./frames.js";
import { Kernel, Layers, MdnRnn } from "./network.js";
import { exp, ln, pow, tanh } from "./numbers.js";
import { arraysOf } from "./weights.js";

const FRAME = [SIDE, SIDE, 3];
const LEAST_SHARE = 1e-6; // as common/agent/network.py

const between = (least, value, most) => Math.min(most, Math.max(least, value));

/** SquashedNormal.mean_of_linear, of one number of the action. */
function meanOfLinear({ power, least, most }, output) {
  if (power === 1) return output;
  const share = (between(least, tanh(output), most) - least) / (most - least);
  const root = pow(between(LEAST_SHARE, share, 1 - LEAST_SHARE), 1 / power);
  return 0.5 * ln(root / (1 - root)); // artanh(2 root - 1)
}

/** SquashedNormal.best, of one number of the action. */
function expected({ power, least, most, logstd, nodes, shares }, mean, deviation) {
  const std = exp(logstd[0] + (logstd[1] - logstd[0]) / (1 + exp(-deviation)));
  const drawn = nodes.map((node) => pow((tanh(mean + std * node) + 1) / 2, power));
  return least + (most - least) * drawn.reduce((sum, value, k) => sum + shares[k] * value, 0);
}

/** The VAE, the MDN-RNN, the agent, and the frames that dreams start from. */
export class Models {
  constructor(kernel, manifest, arrays) {
    this.manifest = manifest;
    const { z_size, hidden_size } = manifest.rnn;
    this._encoder = new Layers(kernel, manifest.vae.encoder, arrays, FRAME);
    [this._mu, this._logvar] = [manifest.vae.mu, manifest.vae.logvar].map((head) =>
      new Layers(kernel, [head], arrays, this._encoder.shape));
    this._decoder = new Layers(kernel, manifest.vae.decoder, arrays, [1, 1, z_size]);
    const names = Object.keys(arrays).filter((name) => name.startsWith("rnn/"));
    this.rnn = new MdnRnn(kernel, manifest.rnn, Object.fromEntries(names.map((name) => [name.slice(4), arrays[name]])));
    this._controller = manifest.controller && this._stacks(kernel, manifest.controller, arrays);
    this.frames = arrays.frames;
  }

  static async load(folder, manifest, report) {
    const response = await fetch(new URL("kernel.wasm", import.meta.url));
    const kernel = await Kernel.load(await response.arrayBuffer());
    return new Models(kernel, manifest, await arraysOf(folder, manifest, report));
  }

  /** A frame to start from, Uint8Array [64 * 64 * 3]. */
  frame(k) {
    const size = FRAME[0] * FRAME[1] * FRAME[2];
    return this.frames.values.subarray(k * size, (k + 1) * size);
  }

  /** A frame -> {mu, logvar} of its z. */
  encode(frame) {
    const hidden = this._encoder.run(Float32Array.from(frame, (value) => value / 255));
    return { mu: this._mu.run(hidden), logvar: this._logvar.run(hidden) };
  }

  /** z -> a frame. */
  decode(z) {
    return Uint8ClampedArray.from(this._decoder.run(z), (value) => value * 255); // which rounds
  }

  _stacks(kernel, { reads, stacks }, arrays) {
    const { z_size, hidden_size } = this.rnn;
    const size = reads.reduce((sum, part) => sum + (part === "z" ? z_size : hidden_size), 0);
    return stacks.map((layers) => new Layers(kernel, layers, arrays, [1, 1, size]));
  }

  /** What the agent does, an action as the game and the MDN-RNN take it. */
  act(state) {
    const { reads, choices, rule } = this.manifest.controller;
    const features = Float32Array.from(reads.flatMap((part) => [...state[part]]));
    const [outputs, ...more] = this._controller.map((stack) => stack.run(features));
    for (const added of more) {
      added.forEach((value, k) => { outputs[k] += choices ? value : meanOfLinear(rule[k], value); }); // of the means
    }
    if (choices) return choices[outputs.indexOf(Math.max(...outputs))];
    return rule.map((part, k) => {
      const { scale, shift, least, most } = part;
      if (part.power) return expected(part, outputs[k], outputs[rule.length + k]);
      return between(least, scale * tanh(outputs[k]) + shift, most);
    });
  }
}

/** One dream. Its noise is given to it, so that it can be anyone's. */
export class Dream {
  constructor(models) {
    this._models = models;
  }

  /** Begins with a z that the VAE may have meant by a frame; `normal` is the noise of that. */
  start(frame, normal) {
    const { mu, logvar } = this._models.encode(frame);
    const { hidden_size } = this._models.rnn;
    this.z = mu.map((mean, k) => mean + exp(0.5 * logvar[k]) * normal[k]);
    this.h = new Float32Array(hidden_size);
    this.c = new Float32Array(hidden_size);
    this.steps = 0;
  }

  /**
   * One step; the noise is {uniform, normal}, each of the size of z, and `chance`, uniform too, of the end. Returns
   * whether the dream ends.
   */
  step(action, temperature, { uniform, normal, chance }) {
    const { rnn, manifest } = this._models;
    const { h, c } = rnn.step(this.z, action, this.steps === 0, this);
    const { z, restart } = rnn.next(h, temperature, uniform, normal);
    const { end_weight, max_steps } = manifest;
    const bar = end_weight ? ln(end_weight) + ln(chance) - ln(1 - chance) : 0; // as mdnrnn.drawn_bar
    this.steps += 1;
    const over = restart > bar || this.steps >= max_steps || !Number.isFinite(h[0]);
    if (!over) Object.assign(this, { z, h, c }); // else the last state stays to be looked at
    return over;
  }
}
