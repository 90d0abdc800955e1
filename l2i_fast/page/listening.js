// A listening test: trials in an order of the listener's own, and answers that stay here until they are saved as a file.
"use strict";

(async () => {
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const byId = (id) => document.getElementById(id);

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // Random numbers from 0 to 1 of a seed of 32 bits: mulberry32 (Tommy Ettinger, public domain).
  function randomOf(seed) {
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  // A copy in random order (Fisher and Yates).
  function shuffled(values, random) {
    const order = [...values];
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  // The trials as the listener meets them: { name, label, sounds in the order of their letters, x }.
  function planned(trials, seed) {
    const random = randomOf(seed);
    return shuffled(trials, random).map(({ name, label, sounds }) => {
      const order = shuffled(sounds, random);
      return { name, label, sounds: order, x: order[Math.floor(random() * order.length)] };
    });
  }

  // ---- What the listener has answered ------------------------------------------------------------------------------

  const { test, form, version, trials } = await Data.load("test");
  const PLACE = `l2i-listening-test-${test}`;
  const asked = Number(new URLSearchParams(location.hash.slice(1)).get("seed")); // #seed=5 for a given order
  const fresh = () => ({
    seed: asked || crypto.getRandomValues(new Uint32Array(1))[0],
    listener: "",
    started: new Date().toISOString(),
    answers: {},
  });

  function restored() {
    try {
      return JSON.parse(localStorage.getItem(PLACE)) ?? fresh();
    } catch {
      return fresh(); // the browser keeps nothing, or what it kept is damaged
    }
  }

  function keep() {
    try {
      localStorage.setItem(PLACE, JSON.stringify(session));
    } catch {
      // Without storage the answers last as long as the page.
    }
  }

  let session = restored();
  let plan = planned(trials, session.seed);
  let current = 0; // place in the plan

  const isComplete = (trial) => {
    const answer = session.answers[trial.name];
    if (form === "abx") return Boolean(answer?.chosen);
    return trial.sounds.every((sound) => answer?.ratings?.[sound] !== undefined);
  };

  function contents() {
    const answers = plan.map(({ name, label, sounds, x }, i) => {
      const { seconds, ratings, chosen } = session.answers[name];
      const common = { trial: name, position: i + 1, label, seconds: Math.round(10 * seconds) / 10 };
      if (form === "abx") return { ...common, a: sounds[0], b: sounds[1], x, chosen };
      return { ...common, ratings: Object.fromEntries(sounds.map((sound) => [sound, ratings[sound]])) };
    });
    const { seed, listener, started } = session;
    return { version, test, form, seed, listener, started, saved: new Date().toISOString(), answers };
  }

  function save() {
    const text = `${JSON.stringify(contents(), null, 1)}\n`;
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    element("a", { href: url, download: `answers-${test}-${session.seed}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    byId("saved").textContent = "Saved among your downloads.";
  }

  // ---- One trial ---------------------------------------------------------------------------------------------------

  const playButton = document.querySelector(".play");
  const seekBar = document.querySelector(".seek");
  const unloop = document.querySelector(".unloop");
  let player = null;
  let tracks = []; // ids in the order of their keys
  let opened = 0; // time at which the trial was opened
  let animating = false;

  async function open(place) {
    leave();
    for (const button of [playButton, byId("back"), byId("next")]) button.disabled = true; // until it is loaded
    current = place;
    const trial = plan[place];
    const { rate, input, sounds } = await Data.load(`trial-${trial.name}`);
    const heard = new Map();
    if (input) heard.set("input", await Engine.unpack(input));
    for (const sound of trial.sounds) heard.set(sound, await Engine.unpack(sounds[sound]));
    if (form === "abx") heard.set("x", heard.get(trial.x));
    const [first] = heard.values();
    player = new Sound.Player(rate, first.length, show);
    for (const [id, samples] of heard) player.setTrack(id, samples);
    tracks = [...heard.keys()];
    opened = performance.now();
    build(trial);
    reveal("trial", "question");
    show();
  }

  // End the trial that is open; its time counts.
  function leave() {
    if (!player) return;
    player.close();
    player = null;
    const answer = session.answers[plan[current].name];
    if (answer) answer.seconds = (answer.seconds ?? 0) + (performance.now() - opened) / 1000;
    keep();
  }

  function build(trial) {
    const label = trial.label.replaceAll("_", " ").toUpperCase();
    byId("question").textContent =
      form === "abx" ? "Which of A and B is X?" : `How well does each sound explain the decision ${label}?`;
    byId("place").textContent = `Trial ${current + 1} of ${plan.length}`;
    byId("progress").value = plan.filter(isComplete).length;
    byId("back").disabled = current === 0;
    seekBar.max = player.duration;
    const rows = tracks.map((id, place) => {
      const name = id === "input" ? "Recording" : id === "x" ? "X" : LETTERS[trial.sounds.indexOf(id)];
      const hint = place < 9 ? [element("kbd", { textContent: place + 1, ariaHidden: "true" })] : [];
      const button = element("button", { type: "button", className: "choose" }, ...hint, element("span", { textContent: name }));
      button.dataset.sound = id;
      button.onclick = () => choose(id);
      const row = element("div", { className: "sound" }, button);
      if (form === "rating" && id !== "input") row.append(rating(trial, id, name));
      return row;
    });
    byId("sounds").dataset.form = form;
    byId("sounds").replaceChildren(...rows);
    byId("choices").replaceChildren(...(form === "abx" ? choices(trial) : []));
    check();
  }

  function rating(trial, sound, name) {
    const given = session.answers[trial.name]?.ratings?.[sound];
    const slider = element("input", { type: "range", min: 0, max: 100, step: 1, value: given ?? 50 });
    slider.ariaLabel = `Rating of ${name}, from 0, not at all, to 100, completely`;
    const output = element("output", { textContent: given ?? "–" });
    slider.classList.toggle("set", given !== undefined);
    const set = () => {
      ((session.answers[trial.name] ??= {}).ratings ??= {})[sound] = slider.valueAsNumber;
      output.textContent = slider.value;
      slider.classList.add("set");
      keep();
      check();
    };
    slider.oninput = set;
    slider.onclick = set; // a click on the middle changes no value, but is an answer
    const scale = element("span", { className: "scale", ariaHidden: "true" });
    scale.append(element("span", { textContent: "not at all" }), element("span", { textContent: "completely" }));
    return element("div", { className: "rating" }, slider, output, scale);
  }

  function choices(trial) {
    return trial.sounds.map((sound, i) => {
      const box = element("input", { type: "radio", name: "chosen", value: sound });
      box.checked = session.answers[trial.name]?.chosen === sound;
      box.onchange = () => {
        (session.answers[trial.name] ??= {}).chosen = sound;
        keep();
        check();
      };
      return element("label", {}, box, `X is ${LETTERS[i]}`);
    });
  }

  function check() {
    const complete = isComplete(plan[current]);
    byId("next").disabled = !complete;
    byId("next").textContent = current + 1 < plan.length ? "Next" : "Finish";
    byId("missing").textContent = complete ? "" : form === "abx" ? "Choose A or B to go on." : "Rate every sound to go on.";
  }

  function choose(id) {
    if (player.selected === id) player.toggle();
    else {
      player.select(id);
      player.play();
    }
  }

  function show() {
    if (!player) return;
    playButton.disabled = false;
    playButton.classList.toggle("playing", player.playing);
    playButton.ariaLabel = player.playing ? "Pause" : "Play";
    unloop.hidden = !player.loop;
    for (const button of document.querySelectorAll("#sounds .choose"))
      button.ariaPressed = String(button.dataset.sound === player.selected);
    showPosition();
    if (!animating) animate();
  }

  function animate() {
    animating = Boolean(player?.playing);
    if (!animating) return;
    showPosition();
    requestAnimationFrame(animate);
  }

  function showPosition() {
    const { position, duration } = player;
    seekBar.value = position;
    const text = `${position.toFixed(1)} / ${duration.toFixed(1)} s`;
    seekBar.ariaValueText = text;
    document.querySelector(".time").textContent = text;
  }

  // Begin or end the loop at the position.
  function mark(end) {
    const { position, duration, loop } = player;
    const [from, to] = loop ?? [0, duration];
    const wanted = end ? [from, position] : [position, to];
    if (wanted[1] - wanted[0] > 0.02) player.setLoop(wanted);
  }

  // ---- The page ----------------------------------------------------------------------------------------------------

  function reveal(id, focus) {
    for (const section of ["welcome", "trial", "end"]) byId(section).hidden = section !== id;
    byId(focus)?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  function fail(error) {
    byId("alert").textContent = `The test cannot go on: ${error.message}`;
    byId("alert").hidden = false;
    console.error(error);
  }

  const KEYS = {
    " ": () => player.toggle(),
    ArrowLeft: () => player.seek(player.position - 0.5),
    ArrowRight: () => player.seek(player.position + 0.5),
    i: () => mark(false),
    o: () => mark(true),
    Escape: () => player.setLoop(null),
  };

  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (!player || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === " " && target.closest("button, input, summary")) return;
    if (key.startsWith("Arrow") && target.closest("input")) return;
    const id = /^[1-9]$/.test(key) ? tracks[key - 1] : null;
    if (id) player.select(id);
    else if (KEYS[key]) KEYS[key]();
    else return;
    event.preventDefault();
  });

  function end() {
    leave();
    byId("saved").textContent = "";
    reveal("end", "end-heading");
  }

  function welcome() {
    const answered = plan.filter(isComplete).length;
    byId("listener").value = session.listener;
    byId("begin").textContent = answered ? `Continue after ${answered} of ${plan.length}` : "Begin";
    byId("discard").hidden = !answered;
    reveal("welcome");
  }

  Sound.setMatched(form === "abx"); // or loudness alone would tell A from B
  byId("volume").oninput = () => Sound.setVolume(byId("volume").valueAsNumber);
  playButton.onclick = () => player.toggle();
  unloop.onclick = () => player.setLoop(null);
  seekBar.oninput = () => player.seek(seekBar.valueAsNumber);
  byId("begin").onclick = () => {
    session.listener = byId("listener").value.trim();
    keep();
    const next = plan.findIndex((trial) => !isComplete(trial));
    if (next < 0) end();
    else open(next).catch(fail);
  };
  byId("discard").onclick = () => {
    session = fresh();
    plan = planned(trials, session.seed);
    keep();
    welcome();
  };
  byId("back").onclick = () => open(current - 1).catch(fail);
  byId("next").onclick = () => (current + 1 < plan.length ? open(current + 1).catch(fail) : end());
  byId("review").onclick = () => open(plan.length - 1).catch(fail);
  byId("save").onclick = save;
  welcome();
})();
