// The page: samples are read when they come into view, play on one clock, and are decoded anew as the reader asks.
"use strict";

(() => {
  const DECODERS = 4; // to keep: each holds four matrices of a recording's size
  const MANY = 8; // components listed at first
  const SOLO = "solo";

  const { css, element } = Drawing;
  const percent = (share) => `${(100 * share).toFixed(0)} %`;

  // ---- What several samples share ----------------------------------------------------------------------------------

  const dictionaries = new Map(); // promises by name
  const decoders = new Map(); // by the sample and what they decode, the last used last

  function dictionary(name) {
    if (!dictionaries.has(name)) dictionaries.set(name, Data.load(name).then(Engine.unpack));
    return dictionaries.get(name);
  }

  function decoder(key, make) {
    const found = decoders.get(key) ?? make();
    decoders.delete(key);
    decoders.set(key, found);
    if (decoders.size > DECODERS) decoders.delete(decoders.keys().next().value);
    return found;
  }

  // ---- One sample --------------------------------------------------------------------------------------------------

  class Sample {
    static active = null; // the one that keys act on

    constructor(article) {
      this.article = article;
      this.name = article.dataset.sample;
      this.opened = null;
      this.figures = new Map([...article.querySelectorAll(".track")].map((figure) => [figure.dataset.track, figure]));
      this.playButton = article.querySelector(".play");
      this.seekBar = article.querySelector(".seek");
      this.time = article.querySelector(".time");
      this.unloop = article.querySelector(".unloop");
      article.addEventListener("pointerdown", () => (Sample.active = this));
      article.addEventListener("focusin", () => (Sample.active = this));
    }

    // Read and decode everything that is heard and seen; once.
    open() {
      this.opened ??= this.#open();
      return this.opened;
    }

    async #open() {
      const { rate, analysis, tracks, arrays } = await Data.load(this.name);
      this.rate = rate;
      this.analysis = analysis;
      this.tracks = new Map(tracks.map((track) => [track.id, track]));
      this.arrays = new Map();
      for (const [key, packed] of Object.entries(arrays)) this.arrays.set(key, await Engine.unpack(packed));
      this.input = await Engine.unpack(this.tracks.get("input").audio);
      this.player = new Sound.Player(rate, this.input.length, () => this.#show());
      this.player.moved = () => this.#showPosition();
      for (const track of tracks) {
        if (track.live) await this.#prepare(track);
        this.#setTrack(track.id, track.live ? this.#decode(track) : await Engine.unpack(track.audio));
        delete track.audio;
      }
      this.#connect();
      for (const track of tracks) if (track.selection) this.#connectPanel(track);
      this.#show();
    }

    // The state of a track whose components the reader may switch.
    async #prepare(track) {
      const { threshold, topK, components, relevance } = track.selection;
      track.W = await dictionary(track.live.dictionary);
      track.H = this.arrays.get(track.live.activations);
      track.initial = { threshold: threshold ?? 0.2, topK, domain: track.live.domain };
      track.state = { ...track.initial };
      track.chosen = new Set(components);
      track.relevance = Float32Array.from(relevance);
    }

    #decoder(track) {
      const { dictionary, activations, nFft, hop, peak } = track.live;
      const key = [this.name, dictionary, activations, nFft, hop, peak].join();
      return decoder(key, () => new Engine.Decoder(this.input, track.W, track.H, track.live));
    }

    #decode(track) {
      const { samples, kept } = this.#decoder(track).decode([...track.chosen], track.state.domain);
      track.kept = kept;
      return samples;
    }

    #setTrack(id, samples) {
      this.player.setTrack(id, samples);
      const figure = this.figures.get(id);
      const loudest = Drawing.spectrogram(figure.querySelector("canvas"), samples, this.analysis, this.rate, this.loudest);
      this.loudest ??= loudest; // all are drawn in dB below the loudest bin of the input
    }

    // Hear and show the components that are chosen now.
    update(track) {
      this.#setTrack(track.id, this.#decode(track));
      this.#describe(track);
    }

    select(id) {
      if (this.player.tracks.has(id)) this.player.select(id);
    }

    // Play one component by itself.
    solo(track, k) {
      this.#endSolo();
      track.solo = k;
      this.#describe(track);
      this.player.setTrack(SOLO, this.#decoder(track).decode([k], track.state.domain).samples);
      this.player.select(SOLO);
      this.player.play();
    }

    // Samples of component k alone, by the settings of the result.
    async component(id, k) {
      await this.open();
      const track = this.tracks.get(id);
      return this.#decoder(track).decode([k], track.live.domain).samples;
    }

    #endSolo() {
      const track = [...this.tracks.values()].find((one) => one.solo !== undefined);
      if (!track) return;
      delete track.solo;
      this.#describe(track);
    }

    // ---- Transport -------------------------------------------------------------------------------------------------

    #connect() {
      const { player } = this;
      this.playButton.disabled = false;
      this.playButton.onclick = () => player.toggle();
      this.unloop.onclick = () => player.setLoop(null);
      this.seekBar.oninput = () => player.seek(this.seekBar.valueAsNumber);
      for (const [id, figure] of this.figures) {
        figure.querySelector(".choose").onclick = () => {
          if (player.selected === id) player.toggle();
          else this.select(id);
        };
        const picture = figure.querySelector(".picture");
        for (const [text, height] of Drawing.frequencies(this.rate)) {
          const label = element("span", { className: "frequency", textContent: text, ariaHidden: "true" });
          label.style.bottom = css(height);
          picture.append(label);
        }
        this.#connectPicture(picture, id);
      }
    }

    // A click plays from there, dragging sets a loop.
    #connectPicture(picture, id) {
      const { player } = this;
      const at = (event) => {
        const { left, width } = picture.getBoundingClientRect();
        return Math.min(Math.max((event.clientX - left) / width, 0), 1) * player.duration;
      };
      let start = null;
      let dragged = false;
      picture.onpointerdown = (event) => {
        if (event.button !== 0) return;
        start = at(event);
        dragged = false;
        picture.setPointerCapture(event.pointerId);
      };
      picture.onpointermove = (event) => {
        if (start === null) return;
        const end = at(event);
        dragged ||= Math.abs(end - start) > 0.015 * player.duration;
        if (dragged) this.#showRegion([Math.min(start, end), Math.max(start, end)]);
      };
      picture.onpointerup = (event) => {
        if (start === null) return;
        const end = at(event);
        if (dragged) player.setLoop([Math.min(start, end), Math.max(start, end)]);
        else player.seek(end);
        start = null;
        this.select(id);
        player.play();
      };
      picture.onpointercancel = () => {
        start = null;
        this.#showRegion(player.loop);
      };
    }

    // Begin or end the loop at the position.
    mark(end) {
      const { position, duration, loop } = this.player;
      const [from, to] = loop ?? [0, duration];
      const wanted = end ? [from, position] : [position, to];
      if (wanted[1] - wanted[0] > 0.02) this.player.setLoop(wanted);
    }

    #showRegion(loop) {
      for (const figure of this.figures.values()) {
        const region = figure.querySelector(".region");
        region.hidden = !loop;
        if (!loop) continue;
        region.style.left = css(loop[0] / this.player.duration);
        region.style.width = css((loop[1] - loop[0]) / this.player.duration);
      }
    }

    #show() {
      const { player } = this;
      this.playButton.classList.toggle("playing", player.playing);
      this.playButton.ariaLabel = player.playing ? "Pause" : "Play";
      this.unloop.hidden = !player.loop;
      this.#showRegion(player.loop);
      for (const [id, figure] of this.figures) {
        figure.classList.toggle("selected", id === player.selected);
        figure.querySelector(".choose").ariaPressed = String(id === player.selected);
      }
      if (player.selected !== SOLO) this.#endSolo();
      this.#showPosition();
      if (!animating) animate();
    }

    #showPosition() {
      const { position, duration } = this.player;
      this.seekBar.value = position;
      this.seekBar.ariaValueText = `${position.toFixed(1)} of ${duration.toFixed(1)} seconds`;
      this.time.textContent = `${position.toFixed(1)} / ${duration.toFixed(1)} s`;
      for (const figure of this.figures.values())
        figure.querySelector(".playhead").style.left = css(position / duration);
    }

    // ---- Components ------------------------------------------------------------------------------------------------

    #connectPanel(track) {
      const panel = this.article.querySelector(`[data-panel="${track.id}"]`);
      if (!panel) return;
      track.panel = panel;
      this.#describe(track);
      const build = () => {
        if (!panel.open || track.built) return;
        track.built = true;
        if (track.live) this.#buildPanel(track);
        else panel.append(element("div", { className: "chart" }));
        this.#describe(track);
      };
      panel.addEventListener("toggle", build);
      build();
    }

    #buildPanel(track) {
      const { state, initial, live } = track;
      const changed = () => {
        track.chosen = new Set(Engine.select(track.relevance, state.threshold, state.topK));
        later(track, () => this.update(track));
      };
      const id = `${this.name}-${track.id}`;
      track.threshold = element("input", { type: "range", min: 0, max: 0.99, step: 0.01, id: `${id}-threshold` });
      track.threshold.oninput = () => {
        state.threshold = track.threshold.valueAsNumber;
        changed();
      };
      track.thresholdText = element("output", { htmlFor: `${id}-threshold` });
      const limits = [...new Set([1, 2, 3, 5, 10, 20, initial.topK ?? 5])].sort((a, b) => a - b);
      track.topK = element("select", {}, ...limits.map((n) => new Option(n, n)), new Option("all", ""));
      track.topK.onchange = () => {
        state.topK = track.topK.value ? Number(track.topK.value) : null;
        changed();
      };
      track.domain = element("select", {}, new Option("log magnitude", "log"), new Option("magnitude", "magnitude"), new Option("Wiener filter", "wiener"));
      track.domain.onchange = () => {
        state.domain = track.domain.value;
        later(track, () => this.update(track));
      };
      const reset = element("button", { type: "button", textContent: "Reset" });
      reset.onclick = () => {
        Object.assign(state, initial);
        track.chosen = new Set(track.selection.components);
        this.update(track);
      };
      const controls = element(
        "div",
        { className: "controls" },
        element("label", {}, "Relevance above ", track.threshold, track.thresholdText),
        element("label", {}, "At most ", track.topK),
        element("label", {}, "Mask on ", track.domain),
        reset,
      );
      track.rows = this.#rows(track);
      const list = element("ul", { className: "components" }, ...track.rows.map((row) => row.item));
      const more = element("button", { type: "button", className: "more", textContent: `Show all ${track.rows.length}` });
      more.onclick = () => {
        for (const row of track.rows) row.item.hidden = false;
        more.remove();
      };
      track.panel.append(element("div", { className: "chart" }), controls, list);
      if (track.rows.some((row) => row.item.hidden)) track.panel.append(more);
    }

    // Components, most relevant first, each with its switch, pictures and a button that plays it alone.
    #rows(track) {
      const { F, T } = this.#decoder(track).X;
      const order = Engine.select(track.relevance, -Infinity, null);
      const rows = order.map((k, place) => {
        const box = element("input", { type: "checkbox" });
        box.onchange = () => {
          if (box.checked) track.chosen.add(k);
          else track.chosen.delete(k);
          later(track, () => this.update(track));
        };
        const alone = element("button", { type: "button", className: "alone", textContent: "Solo" });
        alone.ariaLabel = `Play component ${k} alone`;
        alone.onclick = () => (track.solo === k ? this.select(track.id) : this.solo(track, k));
        const value = element("span", { className: "value", textContent: track.relevance[k].toFixed(2).replace("-", "−") });
        const bar = element("span", { className: `bar${track.relevance[k] < 0 ? " against" : ""}` });
        bar.style.width = css(Math.min(Math.abs(track.relevance[k]), 1));
        const item = element(
          "li",
          { hidden: place >= MANY && !track.chosen.has(k) },
          element("label", {}, box, ` Component ${k}`),
          alone,
          element("span", { className: "relevance" }, element("span", { className: "rail" }, bar), value),
          Drawing.spectrum(track.W, k, F, this.rate),
          Drawing.activity(track.H, k, T),
        );
        return { k, box, alone, item };
      });
      return rows;
    }

    // Show the state of a panel.
    #describe(track) {
      const { panel, selection, live } = track;
      if (!panel) return;
      const n = selection.relevance.length;
      const chosen = live ? track.chosen : new Set(selection.components);
      panel.querySelector(".count").textContent = live ? `${chosen.size} of ${n} heard` : "";
      if (live) this.figures.get(track.id).querySelector(".kept").textContent = percent(track.kept);
      if (!track.built) return;
      const threshold = live ? track.state.threshold : null;
      const most = n ? selection.relevance.indexOf(Math.max(...selection.relevance)) : 0;
      const label = `Relevance of ${n} components, ${chosen.size} chosen; the most relevant is ${most}`;
      panel.querySelector(".chart").replaceChildren(Drawing.relevance(selection.relevance, chosen, threshold, label));
      if (!live) return;
      track.threshold.value = threshold;
      track.thresholdText.textContent = threshold.toFixed(2);
      track.topK.value = track.state.topK ?? "";
      track.domain.value = track.state.domain;
      for (const { k, box, alone } of track.rows) {
        box.checked = chosen.has(k);
        alone.ariaPressed = String(track.solo === k);
      }
    }
  }

  // Run the last piece of work asked for on a track before the next picture.
  const waiting = new Map();

  function later(track, work) {
    if (!waiting.size)
      requestAnimationFrame(() => {
        const works = [...waiting.values()];
        waiting.clear();
        for (const run of works) run();
      });
    waiting.set(track, work);
  }

  let animating = false;

  function animate() {
    const { current } = Sound.Player;
    animating = Boolean(current?.playing);
    if (!animating) return;
    current.moved();
    requestAnimationFrame(animate);
  }

  // ---- The page ----------------------------------------------------------------------------------------------------

  const samples = new Map(
    [...document.querySelectorAll(".sample")].map((article) => [article.dataset.sample, new Sample(article)]),
  );
  [Sample.active] = samples.values();
  const first = document.querySelector(".sample .panel");
  if (first) first.open = true;

  function fail(error) {
    const alert = document.getElementById("alert");
    alert.textContent = `Something cannot be shown: ${error.message}`;
    alert.hidden = false;
    console.error(error);
  }

  const views = new Map(
    [...document.querySelectorAll(".overview")].map((section) => [
      section,
      new Overview.View(section, dictionary, (name, id, k) => samples.get(name).component(id, k), fail),
    ]),
  );

  // One sample or view is read at a time, in the order in which they come into view.
  let queue = Promise.resolve();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        queue = queue.then(() => (views.get(target) ?? samples.get(target.dataset.sample)).open()).catch(fail);
      }
    },
    { rootMargin: "400px" },
  );
  for (const target of [...views.keys(), ...[...samples.values()].map((sample) => sample.article)]) observer.observe(target);

  const volume = document.getElementById("volume");
  volume.oninput = () => Sound.setVolume(volume.valueAsNumber);
  const matched = document.getElementById("matched");
  matched.onchange = () => Sound.setMatched(matched.checked);

  const KEYS = {
    " ": (sample) => sample.player.toggle(),
    ArrowLeft: (sample) => sample.player.seek(sample.player.position - 0.5),
    ArrowRight: (sample) => sample.player.seek(sample.player.position + 0.5),
    i: (sample) => sample.mark(false),
    o: (sample) => sample.mark(true),
    Escape: (sample) => sample.player.setLoop(null),
  };

  document.addEventListener("keydown", (event) => {
    const sample = Sample.active;
    if (!sample?.player || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, target } = event;
    // Inputs keep the keys that they answer to.
    if (key === " " && target.closest("button, input, select, summary")) return;
    if (key.startsWith("Arrow") && target.closest("input, select")) return;
    const id = /^[1-9]$/.test(key) ? [...sample.figures.keys()][key - 1] : null;
    if (id) sample.select(id);
    else if (KEYS[key]) KEYS[key](sample);
    else return;
    event.preventDefault();
  });

  // For tests and the curious: samples that a track of a sample holds, the sample itself, and a global view.
  window.l2i = {
    view: (id) => views.get(document.getElementById(id)),
    sample: (name) => samples.get(name),
    samples: (name, id) => samples.get(name).player.samples(id),
  };
})();
