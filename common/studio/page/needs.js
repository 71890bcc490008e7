/* Says what a browser lacks for a page that dreams by itself. In old JavaScript, so that old browsers can read it. */
(function () {
  var page = document.documentElement;
  if (page.getAttribute("data-backend") !== "browser") return;
  /* a function that splats a vector: is it valid? */
  var simd = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98,
    11];
  var lacking = "";
  if (location.protocol === "file:") {
    lacking = "Browsers do not run such pages from files. Serve the folder, for example with: python3 -m http.server";
  } else if (!("noModule" in document.createElement("script"))) {
    lacking = "This browser is too old for the dream: it lacks JavaScript modules. A current one can show it.";
  } else if (typeof Worker === "undefined") {
    lacking = "This browser lacks web workers, or they are switched off. The dream runs in one.";
  } else if (typeof WebAssembly === "undefined" || !WebAssembly.validate(new Uint8Array(simd))) {
    lacking = "This browser lacks WebAssembly with SIMD, or it is switched off. The dream is computed in it.";
  }
  if (!lacking) return;
  page.setAttribute("data-lacking", lacking);
  document.addEventListener("DOMContentLoaded", function () {
    document.getElementById("status").textContent = lacking;
  });
})();
