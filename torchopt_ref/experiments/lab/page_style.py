"""How the page of all reports looks."""

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5b6270; --page: #f6f7f9; --card: #fff;
  --line: #dfe2e7; --link: #1a5fb4; --good: #1a7f4b; --bad: #b3372f; --open: #8a6100;
  --warn: #fff4d6; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --soft: #a3acb9; --page: #121519; --card: #1d2126; --line: #343a42;
    --link: #8ab8f5; --good: #57c78f; --bad: #f08a80; --open: #e0b64e; --warn: #3a3115; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--page);
  color: var(--text); font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.35rem; line-height: 1.3; margin: 0; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; } p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--link); } nav li { margin: .45rem 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1.1rem; margin: 1.4rem 0; scroll-margin-top: .5rem; }
.soft { color: var(--soft); font-size: .875rem; }
.warning { background: var(--warn); border-left: 4px solid var(--open); padding: .5rem .8rem;
  font-weight: 600; }
.holds { color: var(--good); } .fails { color: var(--bad); } .undecided { color: var(--open); }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .9rem .4rem 0;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
.numbers { font-variant-numeric: tabular-nums; } .numbers td, .numbers th { white-space: nowrap; }
.claims { width: 100%; } .claims td:last-child { width: 55%; } .claims p { margin: .3rem 0; }
.mark, .claims th.side { text-align: center; padding-right: .5rem; }
.mark { font-weight: 700; font-size: 1.1rem; line-height: 1.3; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
details { margin: .5rem 0; } td details { margin: .2rem 0 0; font-size: .875rem; }
summary { cursor: pointer; color: var(--soft); }
details ul { padding-left: 1.1rem; margin: .3rem 0; }
@media (max-width: 40rem) {
  body { padding: .6rem; } section { padding: .8rem; }
  .claims, .claims thead, .claims tbody { display: block; }
  .claims tr { display: grid; grid-template-columns: 1fr repeat(var(--sides), 3.6rem);
    column-gap: .4rem;
    border-bottom: 1px solid var(--line); padding: .3rem 0; }
  .claims th, .claims td { border: 0; padding: .1rem 0; }
  .claims td:first-child { font-weight: 600; }
  .claims th:last-child { display: none; }
  .claims td:last-child { grid-column: 1 / -1; width: auto; }
  .claims td[colspan] { grid-column: 2 / -1; }
}
"""
