"""Results in notebooks: the listening page of one result, inside the notebook."""

from __future__ import annotations

import base64
import html
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l2i_fast.audio import write_audio
from l2i_fast.defaults import default_settings
from l2i_fast.forks import importing
from l2i_fast.page.builder import write_page
from l2i_fast.page.contents import PageSample, Section
from l2i_fast.results import Result
from l2i_fast.results.files import flac_gain

#: Longest recording in seconds whose page a notebook holds: it takes about 0.2 MB a second.
LONGEST = 60.0


@default_settings()
def to_html(result: Result) -> str:
    """Return HTML that shows a result and asks nothing of the network.

    It is the listening page in a frame of its own, which runs in a sandbox. Recordings over `LONGEST` give the picture
    and the beginning of the sounds instead.
    """
    title = f"Interpretation of {Path(result.source).name or 'samples'}"
    seconds = len(result.input) / result.sample_rate
    with tempfile.TemporaryDirectory() as folder:
        if seconds > LONGEST:
            return _summary(result, Path(folder), title, seconds)
        sample = PageSample("result", Path(result.source).name or "samples", (), [result])
        page = write_page([Section("", "", [sample])], Path(folder, "page.html"), "Interpretation", one_file=True)
        document = page.read_text("utf-8")
    frame = 'sandbox="allow-scripts" style="width: 100%; height: 46rem; border: 0; border-radius: 8px"'
    return f'<iframe {frame} title="{html.escape(title)}" srcdoc="{html.escape(document)}"></iframe>'


def _summary(result: Result, folder: Path, title: str, seconds: float) -> str:
    """Return the picture of each explanation, and the first `LONGEST` seconds of the sounds."""
    with importing:  # matplotlib is slow to import
        from l2i_fast.results.picture import save_picture

    parts = [
        f"<p>{html.escape(title)}: {seconds:.0f} s are too long for a page in a notebook, so these are the picture and "
        f"the first {LONGEST:g} s of the sounds. <code>result.save(folder)</code> writes everything, and "
        "<code>l2i page folder --output page</code> makes a page of it.</p>",
        _player(result, result.input, "Recording", folder),
    ]
    for explanation in result.explanations:
        save_picture(folder / "picture.png", result, explanation)
        picture = base64.b64encode((folder / "picture.png").read_bytes()).decode()
        text = html.escape(f"Interpretation of {explanation.label}")
        parts.append(_player(result, explanation.audio, text, folder))
        parts.append(f'<img style="max-width: 100%" alt="{text}: picture" src="data:image/png;base64,{picture}">')
    return "\n".join(parts)


def _player(result: Result, audio: NDArray[np.float32], label: str, folder: Path) -> str:
    beginning = audio[: round(LONGEST * result.sample_rate)]
    gain = np.float32(flac_gain(beginning))
    file = write_audio(folder / "sound.flac", beginning * gain, result.sample_rate, "PCM_16")
    sound = base64.b64encode(file.read_bytes()).decode()
    return f'<p>{label}:<br><audio controls preload="none" src="data:audio/flac;base64,{sound}"></audio></p>'
