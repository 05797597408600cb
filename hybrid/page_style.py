"""The style sheet of galleries and contact sheets."""

STYLE = """
:root { --paper: #fbfaf7; --card: #ffffff; --ink: #1f1e1b; --soft: #6a665e; --line: #e5e1d8; --true: #15724c;
  --other: #a8591b; --mark-ink: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #151518; --card: #1e1e22; --ink: #edebe6; --soft: #a29e95; --line: #323136; --true: #63d0a0;
    --other: #e7a46c; --mark-ink: #10231a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK JP", "Noto Sans Arabic",
    "Noto Sans Devanagari", "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
header { padding-bottom: 1.25rem; border-bottom: 1px solid var(--line); }
.overline { margin: 0; color: var(--soft); font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; }
h1 { margin: .15rem 0 1rem; font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.15; letter-spacing: -.015em;
  overflow-wrap: anywhere; }
h2 { margin: 0; font-size: 1.3rem; letter-spacing: -.01em; }
.facts { display: flex; flex-wrap: wrap; gap: .75rem 2rem; margin: 0; }
.facts dt { color: var(--soft); font-size: .78rem; }
.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
section { margin-top: 2.5rem; }
section.query { margin-top: 2.25rem; }
section.query h2 { font-size: 1.6rem; unicode-bidi: plaintext; text-align: left; }
.found, .legend, .note { margin: .15rem 0 .9rem; color: var(--soft); font-size: .88rem; }
.legend { margin-top: 2rem; }
.legend .mark { position: static; display: inline-grid; vertical-align: .05em; margin-right: .2rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.1rem, 1fr)); gap: 1rem .8rem;
  margin: 0; padding: 0; list-style: none; }
.card { min-width: 0; }
.tile { position: relative; aspect-ratio: 1; padding: .55rem; border: 1px solid var(--line); border-radius: .7rem;
  background: #ffffff; }
.card.true .tile { border-color: transparent; box-shadow: 0 0 0 2.5px var(--true); }
.tile img { display: block; width: 100%; height: 100%; object-fit: contain; border-radius: .25rem; }
.mark { position: absolute; top: -.45rem; right: -.45rem; display: grid; place-items: center;
  width: 1.3rem; height: 1.3rem; border-radius: 50%; background: var(--true); color: var(--mark-ink);
  font-size: .8rem; font-weight: 700; line-height: 1; }
.title { margin: .45rem 0 .1rem; font-size: .82rem; font-weight: 600; line-height: 1.25; overflow-wrap: anywhere; }
.tags { display: flex; flex-wrap: wrap; gap: 0 .3rem; margin: 0; padding: 0; list-style: none; color: var(--soft);
  font-size: .74rem; line-height: 1.4; }
.tags li { overflow-wrap: anywhere; }
.tags li:not(:last-child)::after { content: " ·"; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { padding: .15rem 0 .6rem; color: var(--soft); font-size: .88rem; text-align: left; }
th, td { padding: .38rem .75rem .38rem 0; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, th:last-child, td:last-child { text-align: left; }
th:last-child, td:last-child { padding-left: 1.25rem; }
td:last-child { color: var(--soft); font-size: .88rem; white-space: normal; }
td:nth-child(2) { font-weight: 700; }
thead th { color: var(--soft); font-size: .78rem; font-weight: 500; }
tbody th { font-weight: 600; }
figure { margin: .75rem 0 0; }
figure svg { display: block; width: 100%; height: auto; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .85rem; }
footer ul { margin: .4rem 0 0; padding-left: 1.1rem; }
@media (max-width: 30rem) { .cards { grid-template-columns: repeat(3, 1fr); } main { padding-top: 1.5rem; } }
@media print { body { background: #ffffff; } section.query { break-inside: avoid; } }
"""
