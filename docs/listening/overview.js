// The global view: components by class on a canvas, and a map of the recordings. Components are heard one at a time.
"use strict";

const Overview = (() => {
  const { css, element, svg } = Drawing;
  const SECONDS = 1.5; // of noise
  const COLUMN = [10, 40]; // least and largest width of a component in pixels
  const ROW = 24; // height of a class in pixels, as in style.css
  const NUMBERS = 26; // height of the numbers of the components in pixels
  const LEAST = 0.01; // relevance below which a component speaks for no class
  const USES = 3; // classes to name for a component
  const ASPECT = 4 / 3; // of the map, as in style.css
  const COLOURS = 6; // in style.css; no divisor in common with the number of shapes, so that 42 classes differ
  const SHAPES = [
    "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0 -5 0Z",
    "M-4.5 -4.5H4.5V4.5H-4.5Z",
    "M0 -6L5.5 4.5H-5.5Z",
    "M0 -6.5L6 0L0 6.5L-6 0Z",
    "M-2 -6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
    "M0 6L5.5 -4.5H-5.5Z",
    "M0 -7L1.8 -2.4L6.7 -2.2L2.8 0.9L4.1 5.7L0 3L-4.1 5.7L-2.8 0.9L-6.7 -2.2L-1.8 -2.4Z",
  ];

  const plain = (label) => label.replaceAll("_", " ");
  const signed = (r) => (Math.round(100 * r) / 100 + 0).toFixed(2).replace("-", "−"); // no −0.00

  // Components by the class that they are most relevant to, most relevant first; those relevant to none come last.
  function order(relevance) {
    const ranks = Array.from(relevance[0], (_, k) => {
      const column = relevance.map((row) => row[k]);
      const most = Math.max(...column);
      return { k, most, c: most < LEAST ? relevance.length : column.indexOf(most) };
    });
    return ranks.sort((a, b) => a.c - b.c || b.most - a.most || a.k - b.k).map(({ k }) => k);
  }

  // The classes that a component is most relevant to: [class, relevance].
  function uses({ classes, relevance }, k) {
    const all = classes.map((label, c) => [plain(label), relevance[c][k]]);
    return all.filter(([, r]) => r >= LEAST).sort((a, b) => b[1] - a[1]).slice(0, USES);
  }

  class View {
    // dictionary(name) and component(sample, track, k) promise W and the samples of a component in a recording.
    constructor(section, dictionary, component, fail) {
      const find = (selector) => section.querySelector(selector);
      Object.assign(this, { section, dictionary, component, fail, opened: null, player: null, W: null });
      this.select = find(".model select");
      this.canvas = find(".matrix canvas");
      this.scroller = find(".matrix .scroller");
      this.buttons = { part: find(".part"), noise: find(".noise") };
      this.table = find(".table");
      this.select.onchange = () => this.#show().catch(fail);
      for (const [kind, button] of Object.entries(this.buttons)) button.onclick = () => this.#toggle(kind).catch(fail);
      this.#connectMatrix();
      this.table.addEventListener("toggle", () => this.#fillTable());
      new ResizeObserver(() => this.#draw()).observe(this.scroller);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    }

    open() {
      this.opened ??= this.#show();
      return this.opened;
    }

    // Show the model that is selected.
    async #show() {
      const name = this.select.value;
      const data = await Data.load(name);
      const W = await this.dictionary(data.dictionary);
      if (name !== this.select.value) return;
      this.player?.close();
      Object.assign(this, { data, W, order: order(data.relevance), asked: null, player: null });
      this.section.querySelector(".rows").replaceChildren(
        ...data.classes.map((label, c) => element("li", { textContent: `${plain(label)} (${data.counts[c]})` })),
      );
      this.canvas.ariaValueMin = 0;
      this.canvas.ariaValueMax = this.order.length - 1;
      this.#choose(this.order[0]);
      this.#fillTable();
      this.#fillMap();
    }

    // ---- Components by class ---------------------------------------------------------------------------------------

    #connectMatrix() {
      const { canvas } = this;
      const at = (event) => this.order[Math.min(Math.floor(event.offsetX / this.column), this.order.length - 1)];
      canvas.onpointermove = (event) => this.W && this.#describe(at(event));
      canvas.onpointerleave = () => this.W && this.#describe(this.k);
      canvas.onclick = (event) => this.W && this.choose(at(event));
      canvas.onkeydown = (event) => {
        if (!this.W || event.ctrlKey || event.metaKey || event.altKey) return;
        const place = this.order.indexOf(this.k);
        const last = this.order.length - 1;
        const places = { ArrowLeft: place - 1, ArrowDown: place - 1, ArrowRight: place + 1, ArrowUp: place + 1 };
        const next = { ...places, Home: 0, End: last }[event.key];
        if (event.key === "Enter" || event.key === " ") this.#playBest();
        else if (next !== undefined) this.#choose(this.order[Math.min(Math.max(next, 0), last)]);
        else return;
        event.preventDefault();
      };
    }

    // Choose a component and play it.
    choose(k) {
      this.#choose(k);
      return this.#playBest();
    }

    #choose(k) {
      this.k = k;
      this.#describe(k);
      const place = this.order.indexOf(k);
      this.canvas.ariaValueNow = place;
      const named = uses(this.data, k).map(([label, r]) => `${label} ${signed(r)}`);
      this.canvas.ariaValueText = `Component ${k}: ${named.join(", ") || "relevant to no class"}`;
      const { scroller, column } = this;
      const least = (place + 1) * column - scroller.clientWidth;
      scroller.scrollLeft = Math.min(Math.max(scroller.scrollLeft, least), place * column);
    }

    // Show what is known of a component.
    #describe(k) {
      if (k === this.shown && this.W === this.described) return;
      Object.assign(this, { shown: k, described: this.W });
      const { data, section } = this;
      const F = (data.analysis.nFft >> 1) + 1;
      const heard = data.heard[k];
      section.querySelector(".name").textContent = `Component ${k}`;
      const axis = Drawing.frequencies(data.rate).map(([text, place], i, { length }) => {
        const label = element("span", { textContent: i + 1 < length ? text : `${text} Hz`, ariaHidden: "true" });
        label.style.left = css(place);
        return label;
      });
      section.querySelector(".spectrum").replaceChildren(Drawing.spectrum(this.W, k, F, data.rate), ...axis);
      const items = uses(data, k).map(([label, r]) => {
        const bar = element("span", { className: "bar" });
        bar.style.width = css(r);
        const rail = element("span", { className: "rail" }, bar);
        return element("li", {}, element("span", { textContent: label }), rail, element("span", { className: "value", textContent: signed(r) }));
      });
      section
        .querySelector(".uses")
        .replaceChildren(...(items.length ? items : [element("li", { textContent: "relevant to no class" })]));
      this.buttons.part.disabled = !heard;
      const { name, label, sample } = heard ? data.recordings[heard.recording] : {};
      section.querySelector(".where").replaceChildren(
        ...(heard
          ? ["its part of ", element("a", { href: `#title-${sample}`, textContent: name }), `, predicted as ${plain(label)}`]
          : ["relevant in no recording of this page"]),
      );
      this.#showPlaying();
      this.#draw();
    }

    #draw() {
      if (!this.W) return;
      const { canvas, scroller, order, data } = this;
      const { classes, relevance } = data;
      const [least, most] = COLUMN;
      this.column = Math.min(Math.max(scroller.clientWidth / order.length, least), most);
      const width = this.column * order.length;
      const height = classes.length * ROW + NUMBERS;
      const scale = devicePixelRatio;
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      const context = canvas.getContext("2d");
      context.scale(scale, scale);
      const style = getComputedStyle(canvas);
      const colour = (name) => style.getPropertyValue(`--${name}`);
      context.font = `10px ${style.fontFamily}`;
      context.textAlign = "right";
      context.textBaseline = "middle";
      order.forEach((k, place) => {
        const x = place * this.column;
        for (let c = 0; c < classes.length; c++) {
          const r = Math.min(Math.max(relevance[c][k], -1), 1);
          const cell = [x + 0.5, c * ROW + 0.5, this.column - 1, ROW - 1];
          context.globalAlpha = 1;
          context.fillStyle = colour("faint");
          context.fillRect(...cell);
          context.globalAlpha = Math.abs(r);
          context.fillStyle = colour(r < 0 ? "against" : "accent");
          context.fillRect(...cell);
        }
        context.globalAlpha = 1;
        context.fillStyle = colour(k === this.shown ? "ink" : "soft");
        context.save();
        context.translate(x + this.column / 2, classes.length * ROW + 4);
        context.rotate(-Math.PI / 2);
        context.fillText(k, 0, 0);
        context.restore();
      });
      context.strokeStyle = colour("ink");
      context.lineWidth = 2;
      context.strokeRect(order.indexOf(this.shown) * this.column, 1, this.column, classes.length * ROW - 2);
    }

    // The relevances as a table, whose rows are in the order of the canvas.
    #fillTable() {
      const place = this.table.querySelector(".scores");
      place.replaceChildren();
      if (!this.table.open || !this.W) return;
      const { classes, relevance } = this.data;
      const head = ["component", ...classes.map(plain)];
      const rows = this.order.map((k) => {
        const button = element("button", { type: "button", textContent: `Play ${k}`, onclick: () => this.choose(k) });
        const cells = relevance.map((row) => element("td", { textContent: signed(row[k]) }));
        return element("tr", {}, element("th", { scope: "row" }, button), ...cells);
      });
      const cells = head.map((text) => element("th", { scope: "col", textContent: text }));
      place.append(
        element(
          "table",
          {},
          element("caption", { textContent: "Mean relevance of each component for each predicted class" }),
          element("thead", {}, element("tr", {}, ...cells)),
          element("tbody", {}, ...rows),
        ),
      );
    }

    // ---- Sound -----------------------------------------------------------------------------------------------------

    #playBest() {
      return this.play(this.data.heard[this.k] ? "part" : "noise").catch(this.fail);
    }

    async #toggle(kind) {
      if (this.#plays(kind)) this.player.pause();
      else await this.play(kind);
    }

    #plays(kind) {
      return Boolean(this.player?.playing) && this.player.kind === kind && this.player.k === this.shown;
    }

    // Play the chosen component: its "part" of a recording, or as "noise".
    async play(kind) {
      const { k, W, data } = this;
      const asked = (this.asked = {});
      const { recording, track } = data.heard[k] ?? {};
      const samples =
        kind === "part"
          ? await this.component(data.recordings[recording].sample, track, k)
          : Engine.componentNoise(W, k, data.analysis, Math.round(SECONDS * data.rate));
      if (asked !== this.asked) return; // another one was asked for meanwhile
      this.player?.close();
      this.player = new Sound.Player(data.rate, samples.length, () => this.#showPlaying());
      Object.assign(this.player, { kind, k });
      this.player.setTrack(kind, Engine.levelled(samples));
      await this.player.play();
    }

    #showPlaying() {
      for (const [kind, button] of Object.entries(this.buttons)) button.ariaPressed = String(this.#plays(kind));
    }

    // ---- The map of recordings -------------------------------------------------------------------------------------

    #fillMap() {
      const { recordings, classes } = this.data;
      const middle = {};
      let span = 0;
      for (const [axis, aspect] of [["x", ASPECT], ["y", 1]]) {
        const values = recordings.map((one) => one[axis]);
        const [low, high] = [Math.min(...values), Math.max(...values)];
        middle[axis] = (low + high) / 2;
        span = Math.max(span, (1.15 * (high - low)) / aspect);
      }
      span ||= 1;
      // Neighbours for the arrow keys: class by class.
      const sorted = [...recordings].sort((a, b) => classes.indexOf(a.label) - classes.indexOf(b.label));
      const points = sorted.map((one) => {
        const place = {
          x: css(0.5 + (one.x - middle.x) / (ASPECT * span)),
          y: css(0.5 - (one.y - middle.y) / span),
        };
        const mark = svg("svg", place, this.#mark(classes.indexOf(one.label), one.sample, one.correct));
        const truth = one.true.map(plain).join(", ");
        const label = `${one.name}: predicted as ${plain(one.label)}, true ${truth || "unknown"}${one.correct ? "" : ", wrong"}`;
        const common = { class: "point", tabindex: -1, "aria-label": label };
        const point = one.sample
          ? svg("a", { ...common, href: `#title-${one.sample}` }, mark)
          : svg("g", { ...common, role: "img" }, mark);
        const show = () => this.#name(label, one.sample);
        point.addEventListener("pointerenter", show);
        point.addEventListener("focus", () => {
          for (const other of points) other.setAttribute("tabindex", other === point ? 0 : -1);
          show();
        });
        return point;
      });
      points[0].setAttribute("tabindex", 0);
      const above = points.filter((point) => point.matches("a")); // what the page has is not covered
      const picture = svg("svg", { role: "group", "aria-label": "Map of the recordings" }, ...points, ...above);
      picture.addEventListener("keydown", (event) => {
        const place = points.indexOf(document.activeElement);
        const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
        if (!step || place < 0) return;
        points[(place + step + points.length) % points.length].focus();
        event.preventDefault();
      });
      this.section.querySelector(".map").replaceChildren(picture);
      const key = (text, ...mark) => {
        const shape = svg("svg", { viewBox: "-11 -11 22 22", "aria-hidden": "true" }, this.#mark(...mark));
        return element("li", {}, shape, text);
      };
      const entries = classes.map((label, c) => key(plain(label), c, true, true));
      const rest = recordings.some((one) => !one.sample) ? [key("not on this page", null, false, true)] : [];
      const wrong = recordings.some((one) => !one.correct) ? [key("wrong decision", null, true, false)] : [];
      this.section.querySelector(".key").replaceChildren(...entries, ...rest, ...wrong);
      this.section.querySelector(".named").textContent = "";
    }

    // The mark of a recording: filled if the page has it, ringed if its decision is wrong.
    #mark(c, filled, correct) {
      const colour = c === null ? "any" : `colour-${c % COLOURS}`;
      const shape = svg("path", { d: SHAPES[(c ?? 0) % SHAPES.length], class: `${colour} ${filled ? "filled" : "hollow"}` });
      return svg("g", {}, shape, ...(correct ? [] : [svg("circle", { r: 10, class: "wrong" })]));
    }

    #name(label, sample) {
      const link = sample ? [" – ", element("a", { href: `#title-${sample}`, textContent: "go to it" })] : [];
      this.section.querySelector(".named").replaceChildren(label, ...link);
    }
  }

  return { View };
})();
