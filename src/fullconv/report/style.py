"""The style sheet of the report: system fonts, light and dark, screen and paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root{--ink:#1b1d22;--soft:#565b66;--page:#fff;--box:#f4f5f7;--rule:#d5d8de;--a:#0072b2;--b:#b85000;--link:#005a8f;
--alarm:#b85000;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--ink:#e9eaee;--soft:#a9afbb;--page:#15171b;--box:#20232a;--rule:#3a3f49;
--a:#56b4e9;--b:#e69f00;--link:#7cc4f0;--alarm:#e69f00}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:1rem/1.5 system-ui,sans-serif}
header,main,footer{max-width:76rem;margin:0 auto;padding:0 1rem}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:1rem;background:var(--page);padding:.5rem}
a{color:var(--link)}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;list-style:none;padding:0;margin:.75rem 0}
h1{font-size:1.5rem;line-height:1.25;margin:1.5rem 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.5rem 0 .5rem;padding-top:.5rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.5rem 0 .5rem}
p{max-width:46rem;margin:.5rem 0}p,li,dd,.words td{overflow-wrap:anywhere}
.big{font-size:2.25rem;line-height:1.1;font-weight:650;margin:.75rem 0 .25rem}
.big small{font-size:1rem;font-weight:400;color:var(--soft)}
.soft,figcaption{color:var(--soft);font-size:.875rem}
.alarm{border:3px solid var(--alarm);border-radius:.4rem;padding:.25rem 1rem .75rem;margin:1rem 0;max-width:50rem}
.alarm h2{border:0;margin:.5rem 0}.alarm strong{font-size:1.1rem}
.scroll{overflow-x:auto;max-width:100%}.scroll:focus-visible{outline:2px solid var(--a)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9375rem}
.table{margin:.75rem 0}.table figcaption{max-width:46rem;padding:.25rem 0}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top}
tbody th{font-weight:400;white-space:nowrap}.words tbody th{white-space:normal}
th:first-child{text-align:left}thead th{vertical-align:bottom;border-bottom-width:2px}
.words td,td.text,td.soft{text-align:left}td{white-space:nowrap}.words td{white-space:normal}
td.soft{white-space:normal;min-width:14rem}
.matrix th,.matrix td{padding:.2rem .4rem;font-size:.8125rem;overflow-wrap:normal;white-space:nowrap}
.matrix td{background:rgb(0 114 178/calc(var(--s,0)*.55))}.matrix .diagonal{
outline:1px solid var(--ink);outline-offset:-1px}
.matrix thead th+th{writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;font-weight:400}
.matrix tbody th{position:sticky;left:0;background:var(--page)}
.swatch{display:inline-block;width:.9em;height:.9em;margin-right:.4em;border:1px solid var(--soft);
vertical-align:-.08em;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.matrix td{print-color-adjust:exact;-webkit-print-color-adjust:exact}
.legend{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;list-style:none;padding:0;margin:.75rem 0}
.key{display:inline-block;width:1.6em;height:.9em;vertical-align:-.08em;margin-right:.4em;border:1px solid var(--soft);
print-color-adjust:exact;-webkit-print-color-adjust:exact}
.wrong{background:#b23400}.ignored{background:repeating-linear-gradient(135deg,#5a5a5a 0 3px,#c9c9c9 3px 6px)}
.charts{display:flex;flex-wrap:wrap;gap:1rem 2rem}
.chart{margin:.5rem 0;flex:1 1 20rem;max-width:34rem}
svg{display:block;width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--soft)}
svg .name{fill:var(--ink)}.grid{stroke:var(--rule)}.line{fill:none;stroke-width:2}.whisker{stroke:var(--a);fill:none;
stroke-width:1.5}
.line.look0{stroke:var(--a)}.line.look1{stroke:var(--b);stroke-dasharray:6 3}
.mark.look0{fill:var(--a)}.mark.look1{fill:var(--b)}
.sheet{margin:0 0 1.25rem;break-inside:avoid}
.sheet div{display:grid;grid-template-columns:repeat(4,minmax(0,20rem));gap:.35rem}
.sheet img{display:block;width:100%;height:auto;background:var(--box)}
@media (max-width:44rem){.sheet div{grid-template-columns:repeat(2,minmax(0,1fr))}}
details{margin:.75rem 0}summary{cursor:pointer;color:var(--link)}
footer{margin:3rem auto 2rem;color:var(--soft);font-size:.875rem}
@media print{:root{--ink:#000;--page:#fff;--box:#fff;--soft:#444;--rule:#bbb;--a:#0072b2;--b:#b85000;--alarm:#b85000}
nav,.skip{display:none}.scroll{overflow:visible}body{font-size:.8rem}h2{break-after:avoid}figure,tr{break-inside:avoid}
.sheet div{grid-template-columns:repeat(4,minmax(0,1fr))}.chart{max-width:22rem}}
"""
