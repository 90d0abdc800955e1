// The engine of the page: packed arrays, STFT, and the decoder from activations to sound.
//
// Conventions are those of l2i_fast/reference.py: Hann window (periodic), centred frames, zeros beyond the ends, squared
// windows for normalisation. Sums are float64, what is kept between calls is float32. Matrices are flat typed arrays:
// W by component (K, F), H by component (K, T), spectra by frame (T, F). Runs in browsers and in Node.
"use strict";

const Engine = (() => {
  const EPS = 1e-6;
  const TINY = 2 ** -126; // the least normal float32: below it a bin is silent
  const LEAST_COVER = 0.01; // sum of squared windows
  const LOUDEST = 2; // log(1 + |X|), as strong components reach in recordings
  const LEVEL = 0.05; // RMS of components that are to be equally loud

  // ---- Packed arrays: see packing.py -------------------------------------------------------------------------------

  async function inflated(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // Float32Array of a packed array: float32 values, or samples as predicted integers of 16 or 24 bits.
  async function unpack({ kind, length, scale, order, data }) {
    const planes = await inflated(data);
    if (kind === "float32") {
      const bytes = new Uint8Array(4 * length);
      for (let i = 0; i < length; i++)
        for (let j = 0; j < 4; j++) bytes[4 * i + j] = planes[j * length + i];
      return new Float32Array(bytes.buffer); // little-endian, as every machine with a browser
    }
    const nBytes = kind === "int24" ? 3 : 2;
    const unused = 32 - 8 * nBytes;
    const values = new Int32Array(length);
    for (let i = 0; i < length; i++) {
      let code = 0;
      for (let j = 0; j < nBytes; j++) code |= planes[j * length + i] << (8 * j);
      values[i] = (code >>> 1) ^ -(code & 1);
    }
    for (let pass = 0; pass < order; pass++)
      for (let i = 1; i < length; i++) values[i] = ((values[i] + values[i - 1]) << unused) >> unused;
    const samples = new Float32Array(length);
    for (let i = 0; i < length; i++) samples[i] = values[i] * scale;
    return samples;
  }

  // ---- Fourier transforms ------------------------------------------------------------------------------------------

  // Complex FFT of any length in place: radix 2, and Bluestein's algorithm (1970) for other lengths.
  class FFT {
    constructor(n) {
      this.n = n;
      if (n & (n - 1)) this.#prepareBluestein();
      else this.#prepareRadix2();
    }

    #prepareRadix2() {
      const { n } = this;
      const bits = Math.log2(n);
      this.reversed = new Uint32Array(n);
      for (let i = 0; i < n; i++) this.reversed[i] = (this.reversed[i >> 1] >> 1) | ((i & 1) << Math.max(bits - 1, 0));
      this.cos = Float64Array.from({ length: n >> 1 }, (_, i) => Math.cos((2 * Math.PI * i) / n));
      this.sin = Float64Array.from({ length: n >> 1 }, (_, i) => -Math.sin((2 * Math.PI * i) / n));
    }

    #prepareBluestein() {
      const { n } = this;
      let m = 1;
      while (m < 2 * n - 1) m *= 2;
      this.inner = new FFT(m);
      // i * i modulo 2 n keeps the angles small, and so exact.
      const angle = (i) => (Math.PI * ((i * i) % (2 * n))) / n;
      this.cos = Float64Array.from({ length: n }, (_, i) => Math.cos(angle(i)));
      this.sin = Float64Array.from({ length: n }, (_, i) => -Math.sin(angle(i)));
      this.re = new Float64Array(m);
      this.im = new Float64Array(m);
      this.chirpRe = new Float64Array(m);
      this.chirpIm = new Float64Array(m);
      for (let i = 0; i < n; i++) {
        this.chirpRe[i] = this.chirpRe[(m - i) % m] = this.cos[i];
        this.chirpIm[i] = this.chirpIm[(m - i) % m] = -this.sin[i];
      }
      this.inner.forward(this.chirpRe, this.chirpIm);
    }

    forward(re, im) {
      if (this.inner) this.#bluestein(re, im);
      else this.#radix2(re, im);
    }

    // Not divided by n.
    inverse(re, im) {
      this.forward(im, re);
    }

    #radix2(re, im) {
      const { n, reversed, cos, sin } = this;
      for (let i = 0; i < n; i++) {
        const j = reversed[i];
        if (j > i) {
          const a = re[i];
          const b = im[i];
          re[i] = re[j];
          im[i] = im[j];
          re[j] = a;
          im[j] = b;
        }
      }
      for (let half = 1, stride = n >> 1; half < n; half *= 2, stride >>= 1) {
        for (let start = 0; start < n; start += 2 * half) {
          for (let k = 0, w = 0; k < half; k++, w += stride) {
            const a = start + k;
            const b = a + half;
            const x = re[b] * cos[w] - im[b] * sin[w];
            const y = re[b] * sin[w] + im[b] * cos[w];
            re[b] = re[a] - x;
            im[b] = im[a] - y;
            re[a] += x;
            im[a] += y;
          }
        }
      }
    }

    #bluestein(re, im) {
      const { n, inner, cos, sin, chirpRe, chirpIm } = this;
      const a = this.re.fill(0);
      const b = this.im.fill(0);
      for (let i = 0; i < n; i++) {
        a[i] = re[i] * cos[i] - im[i] * sin[i];
        b[i] = re[i] * sin[i] + im[i] * cos[i];
      }
      inner.forward(a, b);
      for (let i = 0; i < inner.n; i++) {
        const x = a[i] * chirpRe[i] - b[i] * chirpIm[i];
        b[i] = a[i] * chirpIm[i] + b[i] * chirpRe[i];
        a[i] = x;
      }
      inner.inverse(a, b);
      for (let i = 0; i < n; i++) {
        re[i] = (a[i] * cos[i] - b[i] * sin[i]) / inner.n;
        im[i] = (a[i] * sin[i] + b[i] * cos[i]) / inner.n;
      }
    }
  }

  const transforms = new Map();

  function transform(n) {
    if (!transforms.has(n)) transforms.set(n, new FFT(n));
    return transforms.get(n);
  }

  const hann = (n) => Float64Array.from({ length: n }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / n));

  // Spectrum of samples: { re, im } (T, F). Two real frames share one complex transform.
  function stft(samples, nFft, hop) {
    const F = (nFft >> 1) + 1;
    const pad = nFft >> 1;
    const T = 1 + Math.floor((samples.length + 2 * pad - nFft) / hop);
    const window = hann(nFft);
    const fft = transform(nFft);
    const spectrum = { re: new Float32Array(T * F), im: new Float32Array(T * F), T, F };
    const a = new Float64Array(nFft);
    const b = new Float64Array(nFft);
    const read = (t, frame) => {
      for (let i = 0, n = t * hop - pad; i < nFft; i++, n++)
        frame[i] = t < T && n >= 0 && n < samples.length ? window[i] * samples[n] : 0;
    };
    for (let t = 0; t < T; t += 2) {
      read(t, a);
      read(t + 1, b);
      fft.forward(a, b);
      for (let f = 0, row = t * F; f < F; f++, row++) {
        const g = f ? nFft - f : 0;
        spectrum.re[row] = (a[f] + a[g]) / 2;
        spectrum.im[row] = (b[f] - b[g]) / 2;
        if (t + 1 < T) {
          spectrum.re[row + F] = (b[f] + b[g]) / 2;
          spectrum.im[row + F] = (a[g] - a[f]) / 2;
        }
      }
    }
    return spectrum;
  }

  // Samples (length) of the spectrum under the real gains that fill(t, row) writes for frame t. The end fades where hardly
  // a window covers it: as fade_end in masking.py.
  function istft({ re, im, T, F }, nFft, hop, length, fill) {
    const pad = nFft >> 1;
    const window = hann(nFft);
    const fft = transform(nFft);
    const total = Math.max(nFft + hop * (T - 1), pad + length);
    const sums = new Float64Array(total);
    const squares = new Float64Array(total);
    const a = new Float64Array(nFft);
    const b = new Float64Array(nFft);
    const gains = [new Float64Array(F), new Float64Array(F)];
    for (let t = 0; t < T; t += 2) {
      const pair = t + 1 < T;
      fill(t, gains[0]);
      if (pair) fill(t + 1, gains[1]);
      else gains[1].fill(0);
      for (let f = 0; f < F; f++) {
        const i = t * F + f;
        const j = pair ? i + F : i;
        const [g, h] = gains;
        const [p, q, r, s] = [g[f] * re[i], h[f] * re[j], g[f] * im[i], h[f] * im[j]];
        a[f] = p - s;
        b[f] = r + q;
        // The lowest and, for an even length, the highest bin have no imaginary part and no mirror image.
        if (f && 2 * f < nFft) {
          a[nFft - f] = p + s;
          b[nFft - f] = q - r;
        }
      }
      fft.inverse(a, b);
      for (let i = 0, n = t * hop; i < nFft; i++, n++) {
        sums[n] += (window[i] * a[i]) / nFft;
        squares[n] += window[i] * window[i];
        if (pair) {
          sums[n + hop] += (window[i] * b[i]) / nFft;
          squares[n + hop] += window[i] * window[i];
        }
      }
    }
    const y = new Float32Array(length);
    for (let i = 0, n = pad; i < length; i++, n++) y[i] = sums[n] / Math.max(squares[n], LEAST_COVER);
    return y;
  }

  // ---- The decoder -------------------------------------------------------------------------------------------------

  // Divisor of samples before analysis: the absolute peak, or the signed maximum, as scale_to_peak in audio.py.
  function peakOf(samples, mode) {
    let highest = -Infinity;
    let lowest = Infinity;
    for (const x of samples) {
      if (x > highest) highest = x;
      if (x < lowest) lowest = x;
    }
    const peak = Math.max(highest, -lowest);
    if (peak === 0) return 1;
    return mode === "signed" && highest > 1e-6 * peak ? highest : peak;
  }

  // What components hold of an input. The spectrum, log(1 + |X|) and W H are computed once.
  class Decoder {
    constructor(samples, W, H, { nFft, hop, peak }) {
      this.length = samples.length;
      this.nFft = nFft;
      this.hop = hop;
      this.scale = peakOf(samples, peak);
      this.X = stft(samples.map((x) => x / this.scale), nFft, hop);
      this.W = W;
      this.H = H;
      const { re, im, T, F } = this.X;
      this.K = W.length / F;
      this.A = new Float32Array(T * F);
      this.V = new Float32Array(T * F);
      this.WH = new Float32Array(T * F);
      const row = new Float64Array(F);
      const all = Array.from({ length: this.K }, (_, k) => k);
      let sum = 0;
      for (let t = 0; t < T; t++) {
        this.#mix(t, all, row);
        for (let f = 0, i = t * F; f < F; f++, i++) {
          this.A[i] = Math.sqrt(re[i] * re[i] + im[i] * im[i]);
          this.V[i] = Math.log1p(this.A[i]);
          this.WH[i] = row[f];
          sum += this.V[i];
        }
      }
      this.sum = sum;
    }

    // The sum over some components of W_k h_k in frame t.
    #mix(t, components, row) {
      const { W, H } = this;
      const { T, F } = this.X;
      row.fill(0);
      for (const k of components) {
        const h = H[k * T + t];
        if (h !== 0) for (let f = 0, w = k * F; f < F; f++, w++) row[f] += W[w] * h;
      }
    }

    // Sound of some components, { samples, kept }: kept is sum(log(1 + gain A)) / sum(V).
    //   m = (sum over k in S of W_k h_k) / (1e-6 + W H);   gain = expm1(m V) / A, or m in the domain "magnitude",
    //   or m^4 / (m^4 + (1 - m)^4) in the domain "wiener"
    decode(components, domain) {
      const { A, V, WH, scale } = this;
      const { F } = this.X;
      const logarithmic = domain === "log";
      let kept = 0;
      const fill = (t, row) => {
        this.#mix(t, components, row);
        for (let f = 0, i = t * F; f < F; f++, i++) {
          let m = row[f] / (EPS + WH[i]);
          if (domain === "wiener") m = m ** 4 / (m ** 4 + (1 - m) ** 4);
          kept += logarithmic ? m * V[i] : Math.log1p(m * A[i]);
          row[f] = (logarithmic && A[i] >= TINY ? Math.expm1(m * V[i]) / A[i] : m) * scale;
        }
      };
      const samples = istft(this.X, this.nFft, this.hop, this.length, fill);
      return { samples, kept: this.sum ? kept / this.sum : 0 };
    }
  }

  // Components above a threshold of relevance, most relevant first, at most topK: as L2I.select in Python.
  function select(relevance, threshold, topK) {
    const order = Array.from(relevance.keys()).sort((i, j) => relevance[j] - relevance[i] || i - j);
    return order.slice(0, topK ?? order.length).filter((k) => relevance[k] > threshold);
  }

  // ---- Components by themselves ------------------------------------------------------------------------------------

  // Noise (length) under the magnitudes exp(h W_k) - 1 of component k, since W H models log(1 + |X|). The activation h
  // takes the loudest bin to LOUDEST. The noise is white and the same for all: a linear congruential generator.
  function componentNoise(W, k, { nFft, hop }, length) {
    const F = (nFft >> 1) + 1;
    const spectrum = W.subarray(k * F, (k + 1) * F);
    const h = LOUDEST / (spectrum.reduce((a, b) => Math.max(a, b), 0) || 1);
    const gains = Float64Array.from(spectrum, (w) => Math.expm1(h * w));
    const noise = new Float32Array(length);
    for (let i = 0, state = 1; i < length; i++) {
      state = (Math.imul(1664525, state) + 1013904223) >>> 0; // Numerical Recipes, section 7.1
      noise[i] = state / 2 ** 31 - 1;
    }
    return istft(stft(noise, nFft, hop), nFft, hop, length, (_, row) => row.set(gains));
  }

  // Samples at an RMS of LEVEL, or lower so that none exceeds full scale.
  function levelled(samples) {
    const rms = Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
    const peak = samples.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    return samples.map((x) => (peak ? x * Math.min(LEVEL / rms, 1 / peak) : 0));
  }

  return { FFT, Decoder, componentNoise, levelled, peakOf, select, stft, istft, unpack };
})();

if (typeof module !== "undefined") module.exports = Engine;
