// Pictures: spectrograms on canvases, charts as SVG, whose colours the style sheet gives; and what they are made of.
"use strict";

const Drawing = (() => {
  const COLUMNS = 600;
  const ROWS = 144;
  const SHOWN_DB = 80;
  // Matplotlib's colour map magma, every sixteenth colour.
  const MAGMA = (
    "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 " +
    "fcfdbf"
  ).split(" ");
  const SVG = "http://www.w3.org/2000/svg";

  const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
  const hertz = (value) => 700 * (10 ** (value / 2595) - 1);

  // Opaque colours as the bytes of a canvas, red lowest.
  const palette = Uint32Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (MAGMA.length - 1);
    const low = Math.min(Math.floor(place), MAGMA.length - 2);
    let colour = 0xff000000;
    for (let channel = 0; channel < 3; channel++) {
      const [a, b] = [low, low + 1].map((n) => parseInt(MAGMA[n].slice(2 * channel, 2 * channel + 2), 16));
      colour += Math.round(a + (place - low) * (b - a)) << (8 * channel);
    }
    return colour;
  });

  // The largest power of the STFT in each cell of a picture, rows upwards on the mel scale.
  function cells(samples, { nFft, hop }, rate) {
    const { re, im, T, F } = Engine.stft(samples, nFft, hop);
    const width = Math.min(T, COLUMNS);
    const edges = Array.from({ length: ROWS + 1 }, (_, r) =>
      Math.min(Math.round((hertz((r / ROWS) * mel(rate / 2)) * nFft) / rate), F - 1),
    );
    const power = new Float32Array(width * ROWS);
    const column = new Float32Array(F);
    for (let x = 0; x < width; x++) {
      column.fill(0);
      for (let t = Math.floor((x * T) / width); t < Math.floor(((x + 1) * T) / width); t++)
        for (let f = 0, i = t * F; f < F; f++, i++) column[f] = Math.max(column[f], re[i] * re[i] + im[i] * im[i]);
      for (let r = 0; r < ROWS; r++) {
        let most = column[edges[r]];
        for (let f = edges[r] + 1; f < edges[r + 1]; f++) most = Math.max(most, column[f]);
        power[x * ROWS + r] = most;
      }
    }
    return { power, width };
  }

  // Draw the spectrogram of samples in dB below a loudest power, by default their own; return that power.
  function spectrogram(canvas, samples, analysis, rate, loudest = null) {
    const { power, width } = cells(samples, analysis, rate);
    const top = loudest ?? power.reduce((a, b) => Math.max(a, b), 0);
    canvas.width = width;
    canvas.height = ROWS;
    const image = new ImageData(width, ROWS);
    const pixels = new Uint32Array(image.data.buffer);
    for (let x = 0; x < width; x++) {
      for (let r = 0; r < ROWS; r++) {
        const db = top ? 10 * Math.log10(power[x * ROWS + r] / top) : -Infinity;
        pixels[(ROWS - 1 - r) * width + x] = palette[Math.round(255 * Math.min(Math.max(1 + db / SHOWN_DB, 0), 1))];
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return top;
  }

  // Frequencies to name beside a picture on the mel scale: [text, place from 0 to 1].
  function frequencies(rate) {
    const named = [250, 1000, 4000, 16000].filter((f) => f < 0.45 * rate);
    return named.map((f) => [f < 1000 ? `${f}` : `${f / 1000}k`, mel(f) / mel(rate / 2)]);
  }

  const css = (share) => `${(100 * share).toFixed(2)}%`;

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function svg(name, attributes = {}, ...children) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const frame = (width, height, label, ...children) =>
    svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...children);

  // A filled curve of values from 0 to their largest.
  function curve(values, label) {
    const most = Math.max(...values) || 1;
    const width = 100;
    const points = Array.from(values, (v, i) => {
      const x = (width * i) / Math.max(values.length - 1, 1);
      return `${x.toFixed(1)} ${(24 - (23 * v) / most).toFixed(1)}`;
    });
    return frame(width, 24, label, svg("path", { d: `M0 24L${points.join("L")}L${width} 24Z` }));
  }

  // The spectrum of a component, on the mel scale from left to right.
  function spectrum(W, k, F, rate) {
    const edges = Array.from({ length: 65 }, (_, i) =>
      Math.min(Math.round((hertz((i / 64) * mel(rate / 2)) / (rate / 2)) * (F - 1)), F - 1),
    );
    const values = edges.slice(0, -1).map((low, i) => Math.max(...W.subarray(k * F + low, k * F + Math.max(edges[i + 1], low + 1))));
    return curve(values, `Spectrum of component ${k}`);
  }

  // The activations of a component over time.
  function activity(H, k, T) {
    const n = Math.min(T, 100);
    const values = Array.from({ length: n }, (_, i) =>
      Math.max(...H.subarray(k * T + Math.floor((i * T) / n), k * T + Math.floor(((i + 1) * T) / n))),
    );
    return curve(values, `Activations of component ${k}`);
  }

  // Bars of relevance, those chosen marked, and a line at the threshold.
  function relevance(values, chosen, threshold, label) {
    const low = Math.max(-1, Math.min(0, ...values));
    const y = (v) => 60 * (1 - (Math.max(v, low) - low) / (1.05 - low));
    const step = 300 / Math.max(values.length, 1);
    const bars = Array.from(values, (v, k) => {
      const [a, b] = [y(Math.max(v, 0)), y(Math.min(v, 0))];
      const place = { x: (k * step).toFixed(2), width: (0.8 * step).toFixed(2) };
      return svg("rect", { ...place, y: a.toFixed(2), height: Math.max(b - a, 0.4).toFixed(2), class: chosen.has(k) ? "on" : "off" });
    });
    const line = (v, name) => svg("line", { x1: 0, x2: 300, y1: y(v), y2: y(v), class: name });
    const lines = threshold === null ? [] : [line(threshold, "threshold")];
    return frame(300, 60, label, ...bars, line(0, "axis"), ...lines);
  }

  return { activity, css, element, frequencies, relevance, spectrogram, spectrum, svg };
})();
