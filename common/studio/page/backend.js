// Who answers the page: the studio's server, or, on a static page, a worker in the browser.
// `data-backend` in index.html says which; export.py changes it.
//
// connect(told) resolves to
//   games    [{name, title, lacking: null or why it cannot be played}]
//   worlds   which can be played: "dream", and "game" where Python is
//   ask      (message of session.py) -> promise of its answer, {...about, payload: Uint8Array}
// and tells told.lost(reason) when nothing will be answered any more, told.loading(share) while weights come.

export async function connect(told) {
  const here = document.documentElement.dataset.backend;
  return (await (here === "browser" ? import("./browser.js") : import("./server.js"))).connect(told);
}
