// The back end of a static page: a worker that dreams in this browser (worker.js).
import { SIDE, imageOf } from "./frames.js";

export async function connect({ lost, loading }) {
  const { lacking } = document.documentElement.dataset; // see needs.js
  if (lacking) throw new Error(lacking);
  // the page without a network; not over plain http from another machine
  navigator.serviceWorker?.register("service-worker.js").catch(() => {});
  const response = await fetch("games.json");
  if (!response.ok) throw new Error("games.json is not there. Export the page again.");
  const games = await response.json();

  const answers = []; // what waits for an answer, in order
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onerror = () => lost("The dream's worker could not start: this browser is too old, or a file is missing.");
  worker.onmessage = ({ data }) => {
    if ("share" in data) return loading(data.share);
    const { frames, ...rest } = data.about;
    const { payload } = data;
    const about = "z_size" in rest ? { ...rest, frames: pictures(payload) } : data.about; // of a game opened
    answers.shift()({ ...about, payload });
  };
  const ask = (message) => new Promise((resolve) => {
    answers.push(resolve);
    worker.postMessage(message);
  });
  return { games, worlds: ["dream"], ask };
}

/** Frames as the addresses of pictures. */
function pictures(frames) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const size = SIDE * SIDE * 3;
  return Array.from({ length: frames.length / size }, (_, k) => {
    canvas.getContext("2d").putImageData(imageOf(frames.subarray(k * size, (k + 1) * size)), 0, 0);
    return canvas.toDataURL();
  });
}
