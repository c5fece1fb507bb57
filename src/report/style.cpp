#include "report/style.h"

namespace autoglm::report {

std::string_view style_sheet() {
  // The colours of the parts keep their order of lightness for people who
  // cannot tell hues apart; light and dark differ in the variables only.
  return R"css(
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1c2330; --soft: #5b6577;
  --line: #dfe3ea; --accent: #2f6bd8; --accent-pale: #c9daf8;
  --ghost: #e3e7ee; --good: #177a4c; --good-pale: #dcf3e6;
  --bad: #b3312c; --bad-pale: #fbe3e1; --warn: #8a5a00; --warn-pale: #fcefcf;
  --before: #b9c2d0; --bar: #2f6bd8;
  --embedding: #d58a12; --attention: #2f6bd8; --mlp: #158f7d;
  --experts: #0c6357; --router: #77802c;
  --norms: #8b93a1; --head: #8456c9; --extra: #c24c78;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161d; --card: #1a2029; --ink: #e4e9f1; --soft: #9aa5b6;
    --line: #2c3440; --accent: #5e93f2; --accent-pale: #29436f;
    --ghost: #2a323e; --good: #5fcf97; --good-pale: #16382a;
    --bad: #f08a83; --bad-pale: #452322; --warn: #e9bd5b; --warn-pale: #3d3114;
    --before: #4b5769; --bar: #3f73d0;
    --embedding: #c98a2b; --attention: #4a7fdd; --mlp: #209a88;
    --experts: #15766a; --router: #8d963f;
    --norms: #727c8c; --head: #8f68cc; --extra: #c45f85;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans",
    sans-serif;
}
main { max-width: 1060px; margin: 0 auto; padding: 36px 20px 60px; }
h1 { font-size: 28px; line-height: 1.2; margin: 4px 0 6px;
  overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 2px; }
h3 { font-size: 14px; margin: 18px 0 4px; }
p { margin: 4px 0 12px; }
code, pre { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas,
  "DejaVu Sans Mono", monospace; }
pre { overflow-x: auto; margin: 12px 0 0; }
.over { color: var(--soft); font-size: 13px; letter-spacing: .04em; }
.soft { color: var(--soft); }
.arrow { color: var(--soft); padding: 0 4px; }
.badge { display: inline-block; border-radius: 99px; padding: 1px 11px;
  font-size: 13px; font-weight: 600; background: var(--ghost); }
.badge.good { background: var(--good-pale); color: var(--good); }
.badge.bad { background: var(--bad-pale); color: var(--bad); }
.badge.warn { background: var(--warn-pale); color: var(--warn); }
.chain { display: flex; flex-wrap: wrap; gap: 6px 2px; margin: 14px 0 22px;
  align-items: center; }
.chip { border: 1px solid var(--line); background: var(--card);
  border-radius: 8px; padding: 2px 10px; font-size: 13px; }
.error { background: var(--bad-pale); color: var(--bad); border-radius: 10px;
  padding: 10px 14px; margin: 0 0 18px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.cards { display: grid; gap: 12px; margin-bottom: 18px;
  grid-template-columns: repeat(auto-fit, minmax(145px, 1fr)); }
.card, section { background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
.card { padding: 12px 16px 14px; display: flex; flex-direction: column; }
.card .name { color: var(--soft); font-size: 13px; }
.card .value { font-size: 24px; font-weight: 650; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.card .was { color: var(--soft); font-size: 13px; padding-bottom: 6px; }
.track { height: 5px; border-radius: 3px; background: var(--ghost);
  margin-top: auto; overflow: hidden; }
.track div { height: 100%; background: var(--accent); border-radius: 3px; }
section { padding: 18px 20px 20px; margin-bottom: 18px; }
section > p.soft { font-size: 13.5px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; font-size: 13px; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr.group td { padding-top: 14px; font-weight: 650; }
table.narrow { width: auto; font-size: 13px; }
table.narrow td, table.narrow th { padding: 3px 20px 3px 0; }
table.facts th { width: 230px; white-space: nowrap; }
table.facts td { overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px;
  color: var(--soft); margin: 0 0 12px; }
.legend i { display: inline-block; width: 11px; height: 11px;
  border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
.scroll > svg { min-width: 700px; }
.small { display: grid; gap: 14px 20px;
  grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); }
.small h3 { margin: 0; }
details { margin-top: 10px; }
summary { cursor: pointer; color: var(--soft); font-size: 13.5px; }
.step { border-top: 1px solid var(--line); padding: 14px 0 4px; }
.step:first-of-type { border-top: 0; }
.step h3 { font-size: 15px; margin: 0 0 4px; }
.tables { max-height: 340px; overflow: auto; margin-top: 6px; }
footer { color: var(--soft); font-size: 13px; }
svg { display: block; max-width: 100%; height: auto; overflow: visible; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; fill: var(--ink); }
svg .strong { font-weight: 650; }
svg .faint { fill: var(--soft); }
svg .on-color { fill: #fff; font-size: 11px; }
svg .on-pale { fill: var(--ink); font-size: 11px; }
svg .tick { font-size: 11px; fill: var(--soft); }
svg .tick.strong { fill: var(--ink); }
svg .cell { font-size: 11px; }
.part-embedding { fill: var(--embedding); background: var(--embedding); }
.part-attention { fill: var(--attention); background: var(--attention); }
.part-mlp { fill: var(--mlp); background: var(--mlp); }
.part-experts { fill: var(--experts); background: var(--experts); }
.part-router { fill: var(--router); background: var(--router); }
.part-norms { fill: var(--norms); background: var(--norms); }
.part-head { fill: var(--head); background: var(--head); }
.part-extra { fill: var(--extra); background: var(--extra); }
.bar-before { fill: var(--before); background: var(--before); }
.bar-after { fill: var(--bar); background: var(--bar); }
.bar-simulated { fill: var(--accent-pale); stroke: var(--accent);
  stroke-dasharray: 4 3; background: var(--accent-pale); }
.ghost { fill: var(--ghost); background: var(--ghost); }
.paper { fill: var(--card); }
.bits { fill: var(--mlp); }
.whisker { stroke: var(--soft); stroke-width: 1.5; }
.baseline { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 4; }
.trend { fill: none; stroke: var(--accent); stroke-width: 2; }
.dot-before { fill: var(--card); stroke: var(--soft); stroke-width: 2; }
.dot-after { fill: var(--accent); }
@media print { body { background: #fff; } section { break-inside: avoid; } }
)css";
}

}  // namespace autoglm::report
