"""The page of an archive: what `l2i batch` has found, in tables, plots and sound, from its output folder."""

from __future__ import annotations

import itertools
import os
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from l2i_fast.archive.journal import Header
from l2i_fast.archive.samples import blocks
from l2i_fast.archive.settings import BatchSettings
from l2i_fast.archive.summary import Event, Summary, summarize, write_tables
from l2i_fast.archive.view import JournalView
from l2i_fast.archive.work import problem_of
from l2i_fast.arguments import integer
from l2i_fast.arrays import Float32
from l2i_fast.files import as_path, printable
from l2i_fast.forks import importing
from l2i_fast.model import L2I, load
from l2i_fast.model.identity import identity_of
from l2i_fast.page.builder import write_page
from l2i_fast.page.contents import PageSample, Section
from l2i_fast.page.document import write_document
from l2i_fast.recording import RecordingFile
from l2i_fast.stores import is_url, version_of

#: Most confident events in the page's table, and classes on the listening page.
_EVENTS, _CLASSES = 30, 40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_summary(folder: str | os.PathLike[str], best: int = 3, network: str | None = None) -> Path:
    """Write a summary of an archive below its folder, which works from disk and asks nothing of the network.

    In ``folder / "summary"`` it writes ``index.html``; the tables ``classes.csv``, ``hours.csv``, ``dates.csv``,
    ``best.csv`` and ``errors.csv``; plots as PNG where clock times are known; and in ``listening`` the page of
    the most confident events of each class, whose windows are explained anew from the recordings by the run's
    model. What is no longer as the run has found it, recordings or model, is left out there, and the page says so. Each
    file is written whole or not at all, and replaces that of an earlier summary.

    The run may go on meanwhile, or have been interrupted: then the summary is of what is done.

    Parameters
    ----------
    folder : path-like
        Output of `l2i batch`.
    best : int
        Events of each class on the listening page, from 0, for no such page, to 25.
    network : str, optional
        Function that makes the network of a model by `l2i_fast.fit`: see `L2I.load`.

    Returns
    -------
    Path
        The HTML file to open.

    Raises
    ------
    FileNotFoundError, ValueError
        No folder, or none with a journal that can be read.
    OSError
        If the summary cannot be written.
    ImportError
        pyarrow is not installed.
    """
    folder = as_path("folder", folder)
    integer(best, "best", 0, 25)
    summary = summarize(folder)
    target = folder / "summary"
    tables = write_tables(summary, folder, target)
    with importing:  # matplotlib is slow to import
        from l2i_fast.archive.plots import write_plots

    plots = write_plots(summary, target)
    name = _visible(folder.resolve().name)
    sections, skipped = _explain(summary, folder, best, network)
    if sections:
        write_page(sections, target / "listening", f"The best of {name}")
    context = {
        "title": f"Archive {name}",
        "state": summary.state,
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "figures": _figures(summary),
        "confidence": f"{summary.facts['settings']['confidence']:g}",
        "classes": _classes(summary),
        "clock": _clock(summary),
        "plots": plots,
        "listening": bool(sections),
        "skipped": skipped,
        "events": [_event(event, summary, folder) for event in summary.most_confident(_EVENTS)],
        "zone": summary.zone,
        "problems": [
            (kind, n, [(_visible(path), _visible(reason)) for path, reason in summary.examples[kind]])
            for kind, n in summary.problems.items()
        ],
        "tables": [table.name for table in tables],
    }
    styles = ["style.css", "summary.css"]
    return write_document(
        "summary.html", context, target, styles=styles, scripts=[], blocks={}, one_file=False, media=True
    )


def _figures(summary: Summary) -> list[tuple[str, str, str]]:
    """Return what the page begins with: names, values and remarks."""
    more = summary.recordings - summary.opened
    known = f" and {more} recordings of unknown length" if more else ""
    events, windows = (sum(getattr(one, name) for one in summary.classes) for name in ("events", "windows"))
    below = f", and {summary.rejected} below the confidence" if summary.rejected else ""
    figures = [
        ("Sound done", _time(summary.heard), f"of {_time(max(summary.heard, summary.seconds))}{known}"),
        ("Recordings", f"{summary.recordings}", f"{summary.with_events} with events"),
        ("Events", f"{events}", f"{windows} windows{below}"),
        ("Problems", f"{sum(summary.problems.values())}", ""),
    ]
    if "model" in summary.facts:
        figures.append(("Model", _visible(Path(summary.facts["model"]).name), ""))
    return figures


def _classes(summary: Summary) -> dict[str, Any]:
    head = ["Class", "Events", "Windows", "Sound", "Mean probability", "Highest", "Days"]
    rows = [
        (
            _class(one.label), f"{one.events}", f"{one.windows}", _time(one.seconds), f"{one.mean:.3f}",
            f"{one.highest:.3f}", f"{one.days}" if one.days else "–",
        )
        for one in summary.classes
    ]  # fmt: skip
    return {"head": head, "rows": rows}


def _clock(summary: Summary) -> str:
    """Tell which zone the times are of, and how many windows have none."""
    windows = sum(one.windows for one in summary.classes)
    if windows and summary.unclocked == windows:
        return "No window has a clock time: neither names nor metadata of the recordings state one."
    given = summary.facts["settings"]["timezone"] is not None
    reason = "the zone that the run’s --timezone states" if given else "since the run states no --timezone"
    known = "All windows have clock times." if windows else ""
    if summary.unclocked:
        verb = "has" if summary.unclocked == 1 else "have"
        known = f"Of {windows} windows, {summary.unclocked} {verb} no clock time: they are in no plot and on no date."
    return f"Times are in {summary.zone}, {reason}. {known}".rstrip()


def _event(event: Event, summary: Summary, folder: Path) -> dict[str, str]:
    sound = ""
    if event.sound is not None and (folder / event.sound).is_file():
        # Files are named by their beginning, and may hold more windows than this one.
        begin = float(Path(event.sound).stem)
        sound = f"../{quote(event.sound)}#t={max(0.0, event.start - begin):.3f}"
    return {
        "recording": _visible(event.recording),
        "place": f"{event.start:.1f} to {event.end:.1f}",
        "time": _local(event, summary) or "–",
        "label": _class(event.label),
        "probability": f"{event.probability:.3f}",
        "kept": f"{100 * event.kept:.0f} %",
        "sound": sound,
    }


def _local(event: Event, summary: Summary) -> str:
    """Return the clock time of an event in the summary's zone; empty if it is unknown."""
    if event.moment is None:
        return ""
    zone = BatchSettings(timezone=summary.facts["settings"]["timezone"]).zone() or UTC
    return f"{(_EPOCH + timedelta(microseconds=event.moment)).astimezone(zone):%Y-%m-%d %H:%M:%S}"


def _explain(summary: Summary, folder: Path, n: int, network: str | None) -> tuple[list[Section], dict[str, Any]]:
    """Explain the n best events of each class anew; return them, and remarks on what was left out and why."""
    remarks: list[str] = []
    skipped: list[tuple[str, str]] = []
    sections: list[Section] = []
    nothing = sections, {"remarks": remarks, "windows": skipped}
    if not summary.classes or not n:
        return nothing
    model = _model(summary, network, remarks)
    if model is None:
        return nothing
    if len(summary.best) > _CLASSES:
        remarks.append(f"The listening page has the {_CLASSES} classes that were heard longest.")
    with JournalView(folder) as view:
        for label, events in itertools.islice(summary.best.items(), _CLASSES):
            samples: list[PageSample] = []
            for event in events[:n]:
                try:
                    samples.append(_sample(event, summary, view, model))
                except Exception as error:  # whatever a recording may raise that was readable before
                    reason = problem_of(error, event.recording).reason
                    skipped.append((f"{_class(label)}: {_place(event)}", _visible(reason)))
            if samples:
                sections.append(Section(_class(label), "", samples))
    return nothing


def _model(summary: Summary, network: str | None, remarks: list[str]) -> L2I | None:
    """Load the run's model; if it is not there any more, or is another one, add a remark."""
    nothing = "There is no page to listen to the best of each class: "
    name = summary.facts.get("model")
    if name is None:
        remarks.append(f"{nothing}the run’s journal does not state its model.")
        return None
    try:
        model = load(name, network)
    except (OSError, ValueError) as error:
        remarks.append(f"{nothing}the run’s model cannot be read ({_visible(str(error))}).")
        return None
    if identity_of(model) != summary.facts["settings"]["model"]:
        remarks.append(f"{nothing}{_visible(name)} is not the run’s model any more.")
        return None
    return model


def _sample(event: Event, summary: Summary, view: JournalView, model: L2I) -> PageSample:
    settings = summary.facts["settings"]
    samples = _samples(event, view, model.sample_rate, summary.facts["directory"])
    selection = settings["threshold"], settings["top_k"], settings["domain"]
    result = model.interpret((samples, model.sample_rate), [event.label], *selection)
    moment = _local(event, summary)
    parts = [_visible(event.recording), *([f"{moment} ({summary.zone})"] if moment else [])]
    return PageSample(
        f"{event.label} {event.recording_id} {event.start:g}", _place(event), (), [result], note=", ".join(parts)
    )


def _samples(event: Event, view: JournalView, sample_rate: int, directory: str) -> Float32:
    """Read a window (N,) of a recording at `sample_rate`; raise if the recording is not the one that was explained."""
    recording, header = view.find(event.recording_id)
    path = _path(recording.path, directory)
    if version_of(path) != (header.size, header.modified):
        raise ValueError(f"{path} has changed since it was explained")
    n = round((event.end - event.start) * sample_rate)
    return _read(path, header, round((event.start - header.first_frame / header.rate) * sample_rate), n, sample_rate)


def _path(path: str, directory: str) -> str:
    """Return where a recording lies: as it was named, or from the folder in which the run was started."""
    return path if is_url(path) or os.path.exists(path) else os.path.join(directory, path)


def _read(path: str, header: Header, start: int, n: int, sample_rate: int) -> Float32:
    parts: list[Float32] = []
    with warnings.catch_warnings(), RecordingFile(path) as file:
        warnings.simplefilter("ignore", RuntimeWarning)  # a recording that ends too early is among the problems
        for block in blocks(file, sample_rate, start, header.first_frame, header.last_frame):
            parts.append(block[:n])
            n -= len(parts[-1])
            if not n:
                break
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _place(event: Event) -> str:
    return f"{_visible(Path(event.recording).name)}, {event.start:.1f} to {event.end:.1f} s"


def _class(label: str) -> str:
    """Return the name of a class as pages show it."""
    return _visible(label).replace("_", " ")


def _time(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds:.1f} s"


def _visible(text: str) -> str:
    """Return text in which control characters, such as line breaks in names, are shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in printable(text))
