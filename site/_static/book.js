/* What scrolls sideways can be reached from the keyboard. */
function reachable() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, mjx-container, .cell_output .scroll")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
}
addEventListener("load", () => {
  reachable();
  for (const fold of document.querySelectorAll("details")) fold.addEventListener("toggle", reachable);
  if (window.MathJax && MathJax.startup) MathJax.startup.promise.then(reachable);
});
