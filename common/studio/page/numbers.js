// Functions and noise that are the same, bit for bit, in every browser. Math.exp and its kin may differ in the last
// digit from one to another, and a dream amplifies that; +, -, *, / and the square root may not.

const LN2 = 0.6931471805599453;

const POWERS = new Float64Array(2048); // POWERS[k + 1024] is 2 to the k
POWERS[1024] = 1;
for (let k = 1; k < 1024; k++) {
  POWERS[1024 + k] = 2 * POWERS[1023 + k];
  POWERS[1024 - k] = POWERS[1025 - k] / 2;
}

/** 2 to the k, a whole number from -1023 to 1023. */
export const twoTo = (k) => POWERS[k + 1024];

export function exp(x) {
  if (x > 700) return Infinity;
  if (x < -700) return 0;
  const k = Math.round(x / LN2);
  const r = x - k * LN2;
  let sum = 1; // Taylor's series of e to the r, |r| < 0.35: the last term is below 1e-14
  for (let n = 11; n > 0; n--) sum = 1 + (r * sum) / n;
  return sum * twoTo(k); // NaN where x is
}

export const sigmoid = (x) => 1 / (1 + exp(-x));

export const tanh = (x) => 1 - 2 / (exp(2 * x) + 1);

/** Of a number that is not negative. */
export function ln(x) {
  if (x === 0) return -Infinity;
  let k = 0;
  for (; x < 0.7; k--) x *= 2;
  for (; x > 1.4; k++) x /= 2;
  const s = (x - 1) / (x + 1);
  let sum = 0; // of the series of 2 artanh(s), |s| < 0.18
  for (let n = 19; n > 0; n -= 2) sum = 1 / n + sum * s * s;
  return 2 * s * sum + k * LN2;
}

/** A number that is not negative to any power above 0. */
export const pow = (base, exponent) => exp(exponent * ln(base));

/** The standard normal number below which a share `p` of all lie. Source: Wichura 1988, algorithm AS 241, PPND7. */
export function normalQuantile(p) {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return (q * (((59.10937472 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179)) /
      (((67.1875636 * r + 78.757757664) * r + 17.895169469) * r + 1);
  }
  let r = Math.sqrt(-ln(q < 0 ? p : 1 - p));
  let x;
  if (r <= 5) {
    r -= 1.6;
    x = (((0.17023821103 * r + 1.3067284816) * r + 2.75681539) * r + 1.4234372777) /
      ((0.12021132975 * r + 0.7370016425) * r + 1);
  } else {
    r -= 5;
    x = (((0.017337203997 * r + 0.42868294337) * r + 3.081226386) * r + 6.657905115) /
      ((0.012258202635 * r + 0.24197894225) * r + 1);
  }
  return q < 0 ? -x : x;
}

/**
 * Random numbers that follow from whole numbers alone, such as the seed of a dream and its step.
 * Source: Chris Doty-Humphrey's sfc32 (PractRand).
 */
export class Noise {
  constructor(...keys) {
    this._state = Uint32Array.of(keys[0] ?? 0, keys[1] ?? 0, keys[2] ?? 0, 1);
    for (let k = 0; k < 20; k++) this._next();
  }

  _next() {
    const s = this._state;
    const sum = (s[0] + s[1] + s[3]++) >>> 0;
    s[0] = s[1] ^ (s[1] >>> 9);
    s[1] = s[2] + (s[2] << 3);
    s[2] = ((s[2] << 21) | (s[2] >>> 11)) + sum;
    return sum;
  }

  /** `count` numbers in [0, 1), each of 24 bits, as a float32 has them. */
  uniform(count) {
    return Float32Array.from({ length: count }, () => (this._next() >>> 8) / 2 ** 24);
  }

  /** `count` standard normal numbers. */
  normal(count) {
    return Float32Array.from({ length: count }, () => normalQuantile((this._next() + 0.5) / 2 ** 32));
  }
}
