// Keeps the static page for times without a network. export.py writes the names of its files above, as self.FILES.
// The network comes first, so that a new export is seen at once; weights.js keeps the weights, each under its hash.

const CACHE = `page ${self.registration.scope}`; // other pages of this host have caches too
const PATIENCE = 4000; // with a network that does not answer [ms]

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(self.FILES.map(fresh))));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const path = event.request.url.replace(self.registration.scope, "").replace(/[?#].*/, "");
  if (self.FILES.includes(path || "./")) event.respondWith(answer(event.request));
});

const fresh = (path) => new Request(path, { cache: "no-cache" });

async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  try {
    const signal = kept && AbortSignal.timeout?.(PATIENCE); // a first visit waits as long as it takes
    const response = await fetch(request, { cache: "no-cache", signal });
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}
