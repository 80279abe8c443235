// Two players, of which one runs at a time; the language; the keys of the whole page.

const players = {};
let playing = null;
let before = 0; // when the last frame was drawn
let request = 0; // for the next one

function frame(now) {
  // The frame's time may be earlier than the moment at which play was pressed.
  const seconds = clamp((now - before) / 1000, 0, 0.1);
  before = now;
  if (players[playing].advance(seconds)) request = requestAnimationFrame(frame);
  else pause();
}

function play(name) {
  pause();
  players[name].begin();
  playing = name;
  before = performance.now();
  request = requestAnimationFrame(frame);
  showPlaying();
}

function pause() {
  if (playing === null) return;
  cancelAnimationFrame(request);
  const stopped = players[playing];
  playing = null;
  stopped.draw();
  showPlaying();
}

function toggle(name) {
  if (playing === name) pause();
  else play(name);
}

function stepBy(name, count) {
  pause();
  players[name].step(count);
}

function showPlaying() {
  for (const button of document.querySelectorAll("button[data-toggle]")) {
    button.dataset.t = playing === button.dataset.toggle ? "pause" : "play";
    button.textContent = t(button.dataset.t);
  }
}

function transport(name) {
  const bar = document.querySelector(`[data-player="${name}"]`);
  const button = (words, action, className = "") => {
    const made = element("button", { type: "button", className, data: { t: words } });
    made.addEventListener("click", action);
    bar.append(made);
    return made;
  };
  button("play", () => toggle(name), "main").dataset.toggle = name;
  if (name === "paths") button("back", () => stepBy(name, -1));
  button("forward", () => stepBy(name, 1));
  button("restart", () => {
    pause();
    players[name].restart();
  });
}

// The section that takes most of the window.
function inView() {
  const seen = (name) => {
    const { top, bottom } = document.getElementById(name).getBoundingClientRect();
    return Math.min(bottom, window.innerHeight) - Math.max(top, 0);
  };
  return seen("spirals") > seen("paths") ? "spirals" : "paths";
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const { target } = event;
  const takes = (...kinds) => target.matches(kinds.join());
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (event.key === " " && !takes("button", "select", "summary", "input:not([type=range])"))
    toggle(inView());
  else if (step && !takes("input", "select", "pre")) stepBy(inView(), step);
  else return;
  event.preventDefault();
});

function speak(chosen) {
  language = chosen;
  translate();
  showPlaying();
  redraw();
}

function redraw() {
  for (const player of Object.values(players)) player.redraw();
}

const wanted = document.documentElement.dataset.language;
language = wanted === "auto" ? (navigator.language.startsWith("zh") ? "zh" : "en") : wanted;
readTheme();
for (const name of ["paths", "spirals"]) transport(name);
players.paths = new PathsPlayer();
players.spirals = new SpiralsPlayer();
for (const button of document.querySelectorAll("button[data-language]")) {
  button.addEventListener("click", () => speak(button.dataset.language));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readTheme();
  redraw();
});
translate();
showPlaying();
new ResizeObserver(redraw).observe(document.body); // which also draws all in its final size
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play("paths");
