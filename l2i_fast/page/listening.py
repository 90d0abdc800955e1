"""Blind listening tests: interpretations without the names of their methods, and the key that names them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arguments import integer, is_several, one_of, shown
from l2i_fast.defaults import default_settings
from l2i_fast.files import as_path, write_whole
from l2i_fast.page.contents import PageSample, Section
from l2i_fast.page.document import write_document
from l2i_fast.page.packing import pack_samples
from l2i_fast.results import Explanation, Result

Form: TypeAlias = Literal["rating", "abx"]
FORMS: tuple[Form, ...] = get_args(Form)
#: Version of the files of answers and of the key.
VERSION = 1


class ListeningTest(NamedTuple):
    """The files of a listening test.

    Attributes
    ----------
    page : Path
        For the listeners: the HTML file to open.
    key : Path
        For the experimenter: which method made which sound.
    """

    page: Path
    key: Path


@default_settings()
def write_listening_test(
    sections: Sequence[Section],
    output: str | os.PathLike[str],
    title: str = "Listening test",
    one_file: bool = False,
    form: Form = "rating",
    seed: int = 0,
) -> ListeningTest:
    """Write a blind listening test, which works from disk and asks nothing of the network, and its key.

    Every sample becomes a trial about its first explained class. In the form "rating", all methods' interpretations
    are rated from 0 to 100 beside the input, as in MUSHRA (ITU-R BS.1534-3), but without a reference that is known to
    be perfect. In the form "abx", the listener finds out which of the sounds A and B is X (Clark: High-resolution
    subjective testing using a double-blind comparator. JAES 30(5), 1982); each trial has one pair of methods, and all
    pairs occur about equally often. Sounds that are equal are not compared.

    The page knows sounds by numbers. Each listener has an order of trials and sounds of their own, drawn from a seed
    that their answers state.

    Parameters
    ----------
    sections : sequence of Section
    output : path-like
        A folder, or with `one_file` a file. The key is written beside it: ``test`` and ``test.html`` have the key
        ``test-key.json``.
    title : str
        Heading of the page; it must not betray the methods.
    one_file : bool
        Write one HTML file instead of a folder.
    form : {"rating", "abx"}
    seed : int
        Of the numbers of trials and sounds, and of the pairs.

    Returns
    -------
    ListeningTest

    Raises
    ------
    ValueError
        An unknown form, no trial, or results of a sample that explain different classes.
    TypeError
        Anything but sections.
    OSError
        If the files cannot be written.
    """
    one_of(form, "form", FORMS)
    rng = np.random.default_rng(integer(seed, "seed", 0))
    if not is_several(sections) or not all(isinstance(section, Section) for section in sections):
        raise TypeError(f"sections is {shown(sections)}, but must be a list of Section")
    output = as_path("output", output)
    places = [(section, i) for section in sections for i in range(len(section.samples))]
    uses: dict[frozenset[str], int] = {}
    trials: list[dict[str, Any]] = []
    sounds: dict[str, dict[str, str]] = {}
    blocks: dict[str, Any] = {}
    for number in rng.permutation(len(places)):
        section, i = places[number]
        sample = section.samples[i]
        heard = _heard(sample)
        if form == "abx":
            heard = _pair(heard, uses, rng)
        if not heard:
            continue
        trial = str(len(trials) + 1)
        tracks: dict[str, Any] = {}
        for place in rng.permutation(len(heard)):
            result, explanation = heard[place]
            name = f"{trial}-{len(tracks) + 1}"
            tracks[name] = pack_samples(explanation.audio)
            sounds[name] = {
                "section": section.title,
                "sample": sample.name,
                "label": explanation.label,
                "method": result.method,
            }
        result, explanation = heard[0]
        block: dict[str, Any] = {"rate": result.sample_rate, "sounds": tracks}
        if form == "rating":
            block["input"] = pack_samples(result.input)
        blocks[f"trial-{trial}"] = block
        trials.append({"name": trial, "label": explanation.label, "sounds": sorted(tracks)})
    if not trials:
        least = "interpretations" if form == "rating" else "two different interpretations of one sample"
        raise ValueError(f"sections holds no trial, but must hold {least}")
    # Answers name the test that they belong to, so that they are never read with another key.
    test = hashlib.sha256(json.dumps([form, blocks]).encode()).hexdigest()[:16]
    blocks["test"] = {"test": test, "form": form, "version": VERSION, "trials": trials}
    page = write_document(
        "listening.html",
        {"title": title, "form": form, "n_trials": len(trials)},
        output,
        styles=["style.css", "listening.css"],
        scripts=["data.js", "engine.js", "player.js", "listening.js"],
        blocks=blocks,
        one_file=one_file,
    )
    key = output.with_name(f"{output.stem if one_file else output.name}-key.json")
    contents = {"version": VERSION, "test": test, "form": form, "seed": seed, "sounds": sounds}
    write_whole(key, lambda p: p.write_text(json.dumps(contents, indent=1) + "\n"))
    return ListeningTest(page, key)


Heard: TypeAlias = tuple[Result, Explanation]


def _heard(sample: PageSample) -> list[Heard]:
    """Return the results of a sample that explain something, with their first explanations."""
    heard = [(result, result.explanations[0]) for result in sample.results if result.explanations]
    labels = sorted({explanation.label for _, explanation in heard})
    if len(labels) > 1:
        raise ValueError(f"results of {sample.name!r} explain {', '.join(labels)}, but must explain the same class")
    return heard


def _pair(heard: list[Heard], uses: dict[frozenset[str], int], rng: np.random.Generator) -> list[Heard]:
    """Return two results of different methods whose sounds differ, the pair least used so far; or nothing."""
    pairs = [
        (one, other)
        for one, other in itertools.combinations(heard, 2)
        if one[0].method != other[0].method and not _equal(one[1].audio, other[1].audio)
    ]
    if not pairs:
        return []

    def methods(pair: tuple[Heard, Heard]) -> frozenset[str]:
        return frozenset(result.method for result, _ in pair)

    least = min(uses.get(methods(pair), 0) for pair in pairs)
    rarest = [pair for pair in pairs if uses.get(methods(pair), 0) == least]
    chosen = rarest[int(rng.integers(len(rarest)))]
    uses[methods(chosen)] = least + 1
    return list(chosen)


def _equal(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Tell whether two sounds of equal loudness are the same."""
    peaks = [float(np.abs(y).max()) or 1.0 for y in (one, other)]
    return bool(np.allclose(one / peaks[0], other / peaks[1], atol=2**-15))
