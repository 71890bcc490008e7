// The networks of a world model: layers of the VAE and of the controller, and the MDN-RNN, on one matrix product in
// WebAssembly (kernel.wat). A step of the dream is few and small products; all else is plain loops over typed arrays.
import { exp, sigmoid, tanh } from "./numbers.js";

const ACTIVATIONS = { linear: null, relu: (x) => (x > 0 ? x : 0), sigmoid, tanh };
const PANEL = 8; // columns, see kernel.wat

/** The memory of the WebAssembly module, and its product. */
export class Kernel {
  constructor({ memory, product }) {
    this._memory = memory;
    this._product = product;
    this._end = 0;
  }

  /** The kernel of the bytes of kernel.wasm. */
  static async load(bytes) {
    const { instance } = await WebAssembly.instantiate(bytes);
    return new Kernel(instance.exports);
  }

  /** A place for `count` float32, for as long as the kernel lives: its address. */
  take(count) {
    const address = this._end;
    this._end += 16 * Math.ceil(count / 4);
    const missing = this._end - this._memory.buffer.byteLength;
    if (missing > 0) this._memory.grow(Math.ceil(missing / 65536));
    return address;
  }

  /** What stands there now; the memory may move when more of it is taken. */
  at(address, count) {
    return new Float32Array(this._memory.buffer, address, count);
  }

  product(...numbers) {
    this._product(...numbers);
  }
}

/** Weights [inputs, outputs] that multiply up to `rows` rows at a time. */
class Matrix {
  constructor(kernel, { shape: [inputs, outputs], values }, rows = 1) {
    this._kernel = kernel;
    this.inputs = inputs;
    this.outputs = outputs;
    this.width = PANEL * Math.ceil(outputs / PANEL); // of a row of the result, whose last columns are 0
    this._weights = kernel.take(inputs * this.width);
    this._x = kernel.take(rows * inputs);
    this._y = kernel.take(rows * this.width);
    const packed = kernel.at(this._weights, inputs * this.width);
    for (let i = 0; i < inputs; i++) {
      for (let o = 0; o < outputs; o++) {
        packed[((o - (o % PANEL)) * inputs) + i * PANEL + (o % PANEL)] = values[i * outputs + o];
      }
    }
    this.rows = rows;
  }

  /** Where the rows to multiply are to be written, [rows, inputs]. */
  get x() {
    return this._kernel.at(this._x, this.rows * this.inputs);
  }

  /** The product, [rows, width]; good until the next one. */
  product() {
    this._kernel.product(this._x, this._weights, this._y, this.rows, this.inputs, this.width / PANEL);
    return this._kernel.at(this._y, this.rows * this.width);
  }
}

/** Every value plus the bias of its channel, through the activation, in place. */
function finish(values, bias, activation) {
  const channels = bias.length;
  const act = ACTIVATIONS[activation];
  for (let i = 0, channel = 0; i < values.length; i++) {
    const value = values[i] + bias[channel];
    values[i] = act ? act(value) : value;
    channel = channel + 1 === channels ? 0 : channel + 1;
  }
  return values;
}

const KINDS = {
  /** Every input to every output. */
  dense({ kernel, weight, inputs }) {
    const matrix = new Matrix(kernel, weight);
    if (matrix.inputs !== inputs) throw new Error(`a layer reads ${matrix.inputs} numbers, not ${inputs}`);
    return {
      shape: [1, 1, matrix.outputs],
      run(x) {
        matrix.x.set(x);
        return matrix.product().slice(0, matrix.outputs);
      },
    };
  },

  /** A convolution without padding: every window of the picture is a row. */
  conv({ kernel, weight, size, stride, shape: [height, width, channels] }) {
    const [rows, columns] = [height, width].map((side) => Math.floor((side - size) / stride) + 1);
    const matrix = new Matrix(kernel, weight, rows * columns);
    return {
      shape: [rows, columns, matrix.outputs],
      run(x) {
        const windows = matrix.x;
        for (let row = 0, to = 0; row < rows; row++) {
          for (let column = 0; column < columns; column++) {
            for (let line = 0; line < size; line++, to += size * channels) {
              const from = ((row * stride + line) * width + column * stride) * channels;
              windows.set(x.subarray(from, from + size * channels), to);
            }
          }
        }
        return withoutPadding(matrix.product(), matrix);
      },
    };
  },

  /** A transposed convolution: every pixel is a row, its product a patch; where patches overlap, they add up. */
  deconv({ kernel, weight, size, stride, shape: [height, width, channels] }) {
    const [rows, columns] = [height, width].map((side) => (side - 1) * stride + size);
    const matrix = new Matrix(kernel, weight, height * width);
    const filters = matrix.outputs / (size * size);
    if (matrix.inputs !== channels) throw new Error(`a layer reads ${matrix.inputs} channels, not ${channels}`);
    return {
      shape: [rows, columns, filters],
      run(x) {
        matrix.x.set(x);
        const patches = matrix.product();
        const image = new Float32Array(rows * columns * filters);
        const span = size * filters; // of a line of a patch
        for (let pixel = 0; pixel < height * width; pixel++) {
          const column = pixel % width;
          const row = (pixel - column) / width;
          for (let line = 0; line < size; line++) {
            const to = ((row * stride + line) * columns + column * stride) * filters;
            const from = pixel * matrix.width + line * span;
            for (let k = 0; k < span; k++) image[to + k] += patches[from + k];
          }
        }
        return image;
      },
    };
  },

  /** Nothing but its activation. */
  activation: ({ shape }) => ({ shape, run: (x) => x }),
};

function withoutPadding(y, { rows, width, outputs }) {
  const values = new Float32Array(rows * outputs);
  for (let row = 0; row < rows; row++) values.set(y.subarray(row * width, row * width + outputs), row * outputs);
  return values;
}

/** Layers one after the other. */
export class Layers {
  /**
   * @param kernel Kernel.
   * @param layers [{kind, weight, bias, activation, size, stride}], weight and bias named as in `arrays`.
   * @param arrays {name: {shape, values}}.
   * @param shape of what the first layer reads: [height, width, channels], or [1, 1, numbers].
   */
  constructor(kernel, layers, arrays, shape) {
    this._layers = [];
    for (const about of layers) {
      const inputs = shape[0] * shape[1] * shape[2];
      const layer = KINDS[about.kind]({ ...about, kernel, weight: arrays[about.weight], shape, inputs });
      shape = layer.shape;
      const bias = about.bias ? arrays[about.bias].values : new Float32Array(shape[2]);
      this._layers.push((x) => finish(layer.run(x), bias, about.activation));
    }
    this.shape = shape;
  }

  run(x) {
    return this._layers.reduce((values, layer) => layer(values), x);
  }
}

/** The MDN-RNN: an LSTM whose output is, for every dimension of the next z, a mixture of normals. */
export class MdnRnn {
  /**
   * @param kernel Kernel.
   * @param sizes {z_size, action_size, hidden_size, mixtures, restart, forget_bias}.
   * @param arrays {kernel, bias, output_w, output_b: {shape, values}}.
   */
  constructor(kernel, sizes, arrays) {
    Object.assign(this, sizes);
    this._gates = new Matrix(kernel, arrays.kernel);
    this._gate_bias = arrays.bias.values;
    this._output = new Matrix(kernel, arrays.output_w);
    this._output_bias = arrays.output_b.values;
  }

  /** One step of the LSTM: z, action, whether the dream begins, and {h, c} -> the new {h, c}. */
  step(z, action, begins, { h, c }) {
    const size = this.hidden_size;
    this._gates.x.set([...z, ...action, ...(this.restart ? [Number(begins)] : []), ...h]);
    const sums = this._gates.product();
    const bias = this._gate_bias;
    const next = { h: new Float32Array(size), c: new Float32Array(size) };
    for (let k = 0; k < size; k++) {
      const i = sigmoid(sums[k] + bias[k]);
      const j = tanh(sums[size + k] + bias[size + k]);
      const f = sigmoid(sums[2 * size + k] + bias[2 * size + k] + this.forget_bias);
      const o = sigmoid(sums[3 * size + k] + bias[3 * size + k]);
      next.c[k] = c[k] * f + i * j;
      next.h[k] = o * tanh(next.c[k]);
    }
    return next;
  }

  /**
   * Draws the next z: mixture logits divided by the temperature, the noise multiplied by its square root.
   * @returns {z: Float32Array, restart: the logit of the dream's end, -Infinity where none is predicted}.
   */
  next(h, temperature, uniform, normal) {
    const { z_size, mixtures } = this;
    this._output.x.set(h);
    const output = this._output.product();
    for (let k = 0; k < this._output_bias.length; k++) output[k] += this._output_bias[k];
    const z = new Float32Array(z_size);
    const weight = new Float64Array(mixtures);
    for (let d = 0, at = Number(this.restart); d < z_size; d++, at += 3 * mixtures) {
      let most = -Infinity;
      for (let k = 0; k < mixtures; k++) most = Math.max(most, output[at + k]);
      let total = 0;
      for (let k = 0; k < mixtures; k++) total += weight[k] = exp((output[at + k] - most) / temperature);
      // the last component whose predecessors weigh less than the threshold
      let chosen = 0;
      let before = weight[0];
      for (let k = 1; k < mixtures; k++) {
        if (uniform[d] * total >= before) chosen = k;
        before += weight[k];
      }
      const mean = output[at + mixtures + chosen];
      const logstd = output[at + 2 * mixtures + chosen];
      z[d] = mean + exp(logstd) * Math.sqrt(temperature) * normal[d];
    }
    return { z, restart: this.restart ? output[0] : -Infinity };
  }
}
