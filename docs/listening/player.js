// Players whose tracks run on one clock: all play at once, one is heard, and switching is a short ramp of their gains.
"use strict";

const Sound = (() => {
  const RAMP = 0.008; // s
  const LEAD = 0.02; // s from the call to the first sample, so that all tracks begin together
  const LOUDEST_GAIN = 100; // of matched volumes
  const settings = { volume: 1, matched: false };
  const players = new Set();
  let context = null;
  let master = null;

  // The context is made at the first play: before a gesture of the reader it would not run.
  function running() {
    if (!context) {
      context = new AudioContext();
      master = context.createGain();
      master.gain.value = settings.volume;
      master.connect(context.destination);
    }
    return context.state === "running" ? Promise.resolve() : context.resume();
  }

  // Exponential, since that begins at the gain of the moment, whatever ramp runs; 95 % of the way in RAMP.
  function ramp(gain, value, from = context.currentTime) {
    gain.cancelScheduledValues(from);
    gain.setTargetAtTime(value, from, RAMP / 3);
  }

  // From 0 to 1.
  function setVolume(volume) {
    settings.volume = volume;
    if (master) ramp(master.gain, volume);
  }

  // Whether all tracks of a player have the same RMS.
  function setMatched(matched) {
    settings.matched = matched;
    for (const player of players) player.updateGains();
  }

  function measure(samples) {
    let peak = 0;
    let squares = 0;
    for (const x of samples) {
      peak = Math.max(peak, Math.abs(x));
      squares += x * x;
    }
    return { peak, rms: Math.sqrt(squares / samples.length) };
  }

  class Player {
    static current = null; // the one that plays; only one does

    // changed() is called when the player starts, stops, seeks, loops or switches.
    constructor(rate, length, changed) {
      this.rate = rate;
      this.duration = length / rate;
      this.changed = changed;
      this.moved = () => {}; // called for each picture while it plays
      this.tracks = new Map(); // by id: { buffer, peak, rms, voice }
      this.selected = null;
      this.loop = null; // [start, end] in seconds
      this.rest = 0; // the position at which it stands or began to play
      this.started = null; // the context's time at that position, null while it stands
      players.add(this);
    }

    get playing() {
      return this.started !== null;
    }

    get position() {
      return this.playing ? this.#positionAt(context.currentTime) : this.rest;
    }

    #positionAt(time) {
      const position = this.rest + Math.max(0, time - this.started);
      if (!this.loop || position < this.loop[1]) return Math.min(position, this.duration);
      const [start, end] = this.loop;
      return start + ((position - start) % (end - start));
    }

    // What is heard of a track: while it plays, the samples of its source.
    samples(id) {
      const { buffer, voice } = this.tracks.get(id);
      return (voice?.source.buffer ?? buffer).getChannelData(0);
    }

    // Add a track, or replace its samples while it plays.
    setTrack(id, samples) {
      const buffer = new AudioBuffer({ length: samples.length, sampleRate: this.rate });
      buffer.copyToChannel(samples, 0);
      const voice = this.tracks.get(id)?.voice;
      const track = { buffer, ...measure(samples), voice: null };
      this.tracks.set(id, track);
      this.selected ??= id;
      if (!this.playing) return;
      const when = this.#frame(context.currentTime);
      if (voice) this.#silence(voice, when);
      this.#sound(track, when);
      this.updateGains(when);
    }

    select(id) {
      this.selected = id;
      this.updateGains();
      this.changed();
    }

    async play() {
      await running();
      if (this.playing) return;
      if (Player.current !== this) Player.current?.pause();
      Player.current = this;
      if (this.rest >= this.duration) this.rest = 0;
      this.#start();
      this.changed();
    }

    pause() {
      if (!this.playing) return;
      this.#stop();
      this.changed();
    }

    // Stop, and release the tracks.
    close() {
      this.pause();
      this.tracks.clear();
      players.delete(this);
    }

    toggle() {
      return this.playing ? this.pause() : this.play();
    }

    seek(position) {
      const { playing, loop } = this;
      if (playing) this.#stop();
      this.rest = Math.min(Math.max(position, 0), this.duration);
      if (loop && (this.rest < loop[0] || this.rest >= loop[1])) this.loop = null;
      if (playing) this.#start();
      this.changed();
    }

    // Repeat [start, end] in seconds, or nothing for null.
    setLoop(loop) {
      const { playing } = this;
      if (playing) this.#stop();
      this.loop = loop;
      if (loop && (this.rest < loop[0] || this.rest >= loop[1])) this.rest = loop[0];
      if (playing) this.#start();
      this.changed();
    }

    // Gains of the tracks: the selected one is heard, no sample exceeds full scale.
    updateGains(from) {
      if (!this.playing) return;
      for (const [id, { voice }] of this.tracks) ramp(voice.gain.gain, this.#gain(id), from);
    }

    #gain(id) {
      if (id !== this.selected) return 0;
      const tracks = [...this.tracks.values()].filter((track) => track.rms > 0);
      const common = 1 / Math.max(1, ...tracks.map((track) => track.peak));
      const { rms } = this.tracks.get(id);
      if (!settings.matched || rms === 0) return common;
      const [first] = tracks;
      const target = Math.min(first.rms * common, ...tracks.map((track) => track.rms / track.peak));
      return Math.min(target / rms, LOUDEST_GAIN);
    }

    // On a sample of the context, so that what starts later stays aligned with what plays.
    #frame(time) {
      return Math.ceil((time + LEAD) * context.sampleRate) / context.sampleRate;
    }

    #start() {
      this.started = this.#frame(context.currentTime);
      for (const track of this.tracks.values()) this.#sound(track, this.started);
      this.updateGains(this.started);
    }

    #stop() {
      this.rest = this.position;
      this.started = null;
      for (const track of this.tracks.values()) {
        this.#silence(track.voice, context.currentTime);
        track.voice = null;
      }
    }

    #sound(track, when) {
      const source = new AudioBufferSourceNode(context, { buffer: track.buffer });
      const gain = new GainNode(context, { gain: 0 });
      source.connect(gain).connect(master);
      if (this.loop) [source.loop, source.loopStart, source.loopEnd] = [true, ...this.loop];
      const voice = { source, gain };
      source.onended = () => {
        gain.disconnect();
        if (track.voice === voice && track === this.tracks.get(this.selected)) this.#end();
      };
      source.start(when, this.#positionAt(when));
      track.voice = voice;
    }

    #silence({ source, gain }, when) {
      ramp(gain.gain, 0, when);
      source.stop(when + 4 * RAMP);
    }

    #end() {
      this.#stop();
      this.rest = 0;
      this.changed();
    }
  }

  return { Player, setMatched, setVolume };
})();
