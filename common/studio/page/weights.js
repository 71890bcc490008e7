// Fetches what a game's manifest lists, and takes nothing that is not what was exported.
import { twoTo } from "./numbers.js";
import { sha256 } from "./sha256.js";

export const FORMAT = 2; // of manifests, see export.py

const cacheName = () => `weights ${new URL(".", import.meta.url)}`; // other pages of this host have caches too

export async function manifestOf(folder) {
  const response = await fetch(new URL(`${folder}/manifest.json`, import.meta.url));
  if (!response.ok) throw new Error(`${folder}/manifest.json is not there (${response.status})`);
  const manifest = await response.json();
  if (manifest.format !== FORMAT) throw new Error(`${folder} was exported for another version of this page; reload it`);
  return manifest;
}

/**
 * The arrays of a manifest, from the browser's cache if they are there; else they are kept there, to play offline.
 * @param report called with the share that has come, 0 to 1.
 * @returns {name: {shape, values}}, values in Float32Array (float16 in the file) or Uint8Array.
 */
export async function arraysOf(folder, manifest, report = () => {}) {
  const url = new URL(`${folder}/${manifest.file}`, import.meta.url);
  const cache = await globalThis.caches?.open(cacheName()).catch(() => null); // there is none over plain http
  const kept = await cache?.match(url);
  const bytes = kept ? new Uint8Array(await kept.arrayBuffer()) : await download(url, manifest.bytes, report);
  try {
    const arrays = verified(url, bytes, manifest);
    if (cache && !kept) await keep(cache, url, bytes);
    return arrays;
  } catch (error) {
    if (kept) await cache.delete(url);
    throw error;
  }
}

async function download(url, size, report) {
  const response = await fetch(url, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${fileOf(url)} is not there (${response.status}); reload the page`);
  const bytes = new Uint8Array(size + 1); // one more, to notice a file that is too long
  const reader = response.body.getReader();
  let end = 0;
  for (let part; !(part = await reader.read()).done && end <= size; end += part.value.length) {
    bytes.set(part.value.subarray(0, bytes.length - end), end);
    report(Math.min(1, (end + part.value.length) / size));
  }
  return bytes.subarray(0, Math.min(end, bytes.length));
}

function verified(url, bytes, manifest) {
  if (bytes.length !== manifest.bytes) {
    const how = bytes.length < manifest.bytes ? `only ${bytes.length}` : "more";
    throw new Error(`${fileOf(url)} is damaged: it should have ${manifest.bytes} bytes and has ${how}; export it again`);
  }
  const arrays = {};
  for (const [name, { shape, type, offset, sha256: digest }] of Object.entries(manifest.arrays)) {
    const count = shape.reduce((product, size) => product * size, 1);
    const part = bytes.slice(offset, offset + count * (type === "float16" ? 2 : 1)); // a copy, at an even address
    if (sha256(part) !== digest) {
      throw new Error(`${fileOf(url)} is damaged: ${name} is not what was exported (its sha256 differs); export it again`);
    }
    arrays[name] = { shape, values: type === "float16" ? floats(new Uint16Array(part.buffer)) : part };
  }
  return arrays;
}

async function keep(cache, url, bytes) {
  try {
    for (const { url: other } of await cache.keys()) {
      if (new URL(".", other).href === new URL(".", url).href) await cache.delete(other); // an earlier export of the game
    }
    await cache.put(url, new Response(bytes));
  } catch {
    // no room: the page works, only not offline
  }
}

const fileOf = (url) => url.pathname.split("/").slice(-2).join("/");

let table; // of all 65,536 float16

function floats(halves) {
  table ??= Float32Array.from({ length: 65536 }, (_, bits) => {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent ? (1024 + fraction) * twoTo(exponent - 25) : fraction * 2 ** -24;
    return (bits & 32768 ? -size : size); // the export writes no infinities
  });
  return Float32Array.from(halves, (bits) => table[bits]);
}
