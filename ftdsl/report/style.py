"""The page's own CSS and script: light and dark as the viewer has it, narrow screens, paper."""

CSS = """
:root { --ink: #1f2328; --dim: #59636e; --line: #d1d9e0; --soft: #f6f8fa; --paper: #fff; --good: #1a7f37; --bad: #c92a2a }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9198a1; --line: #3d444d; --soft: #1c2128; --paper: #0d1117; --good: #3fb950; --bad: #ff7b72 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1100px; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line) } h3 { font-size: 1rem }
.dim { color: var(--dim) } .good { color: var(--good) } .bad { color: var(--bad) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem }
td, th { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line) }
td.n { text-align: right; font-variant-numeric: tabular-nums }
pre, code { font: 12.5px/1.45 ui-monospace, monospace } pre { background: var(--soft); padding: .7rem; overflow-x: auto }
.finding { border-left: 3px solid var(--bad); padding: .1rem .9rem; margin: 1rem 0; background: var(--soft) }
summary { cursor: pointer } nav a { display: inline-block; margin-right: 1rem } a { color: inherit }
.break { overflow-wrap: anywhere; min-width: 6em } td:first-child { min-width: 8em }
@media print { details > * { display: block } nav { display: none } body { font-size: 11px } h2 { break-after: avoid } }
"""

SCRIPT = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const looks = light => ({
  "font.color": light ? "#1f2328" : "#e6edf3",
  ...Object.fromEntries(["xaxis", "yaxis", "yaxis2", "yaxis3", "yaxis4", "yaxis5", "yaxis6"].flatMap(axis => [
    [axis + ".gridcolor", light ? "#d1d9e0" : "#30363d"], [axis + ".zerolinecolor", light ? "#d1d9e0" : "#30363d"]])),
  "modebar.bgcolor": "rgba(0,0,0,0)", "legend.bgcolor": "rgba(0,0,0,0)",
  "hoverlabel.bgcolor": light ? "#fff" : "#1c2128", "hoverlabel.font.color": light ? "#1f2328" : "#e6edf3",
});
const known = (figure, change) => Object.fromEntries(Object.entries(change).filter(
  ([key]) => !key.includes("axis") || key.split(".")[0] in figure.layout));
for (const place of document.querySelectorAll("[data-figure]")) {
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  const paint = light => Plotly.relayout(place, known(figure, looks(light)));
  const how = { responsive: true, displaylogo: false, displayModeBar: "hover" };
  Plotly.newPlot(place, figure.data, figure.layout, how).then(() => paint(!dark.matches));
  dark.addEventListener("change", () => paint(!dark.matches));
  addEventListener("beforeprint", () => paint(true));
  addEventListener("afterprint", () => paint(!dark.matches));
}
"""
