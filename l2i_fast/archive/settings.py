"""Settings of a run over an archive, as plain data with checked values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias
from zoneinfo import ZoneInfo

from annotated_types import Ge, Gt, Le

from l2i_fast.settings import PositiveInt, Section

#: Which sound is written: none, that of events, or of everything.
SoundOf: TypeAlias = Literal["none", "events", "all"]
#: FLAC and WAV of 24 bits, or Opus in Ogg.
SoundFormat: TypeAlias = Literal["flac", "ogg", "wav"]
#: Tables for other programs.
Export: TypeAlias = Literal["raven", "audacity", "csv", "jsonl"]
Probability: TypeAlias = Annotated[float, Ge(0), Le(1)]
Seconds: TypeAlias = Annotated[float, Gt(0), Le(3600)]
Context: TypeAlias = Annotated[float, Ge(0), Le(3600)]


@dataclass(frozen=True)
class BatchSettings(Section):
    """What is done with each recording of an archive.

    Attributes
    ----------
    confidence : float
        Lowest probability at which a window is worth keeping.
    explain_rejected : float
        Windows that miss `confidence` by at most this are explained as well.
    window, overlap : float
        Length of a window and its overlap with the next one, at most half of it, in seconds.
    sound : {"none", "events", "all"}
        Which sound is written.
    context : float or None
        Write the recording itself around each event, too, with this many seconds before and after; None is not.
    audio_format : {"flac", "ogg", "wav"}
    exports : tuple of {"raven", "audacity", "csv", "jsonl"}
        Tables to write as well.
    timezone : str or None
        Zone of clock times that state none, such as "UTC" or "Europe/Berlin".
    device : str
        Of the networks and operations of each process: "cpu", "cuda" and so on.
    jobs : int or None
        Processes, each with one thread; None is one for each core, or for each CPU of the cluster.
    cluster : str or None
        Ray cluster that does the work: "auto" for the one that this machine belongs to, "local" for one that is started
        here and ends with the run, or an address such as "host:6379"; None is this machine without Ray.
    """

    confidence: Probability = 0.5
    explain_rejected: Probability = 0.0
    window: Seconds = 5.0
    overlap: Seconds = 1.0
    sound: SoundOf = "events"
    context: Context | None = None
    audio_format: SoundFormat = "flac"
    exports: tuple[Export, ...] = ()
    timezone: str | None = None
    device: str = "cpu"
    jobs: PositiveInt | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap > self.window / 2:
            raise ValueError(
                f"overlap is {self.overlap:g} s, but must be at most half of window, {self.window / 2:g} s"
            )
        if self.context is not None and self.sound != "events":
            raise ValueError(f"context is {self.context:g} s, but sound is {self.sound!r}: only events have a context")
        self.zone()
        if self.cluster not in (None, "auto", "local"):
            check_address("cluster", self.cluster)

    def zone(self) -> ZoneInfo | None:
        """Return the zone that `timezone` names."""
        if self.timezone is None:
            return None
        try:
            return ZoneInfo(self.timezone)
        except (OSError, ValueError, LookupError):
            needed = "a zone such as UTC or Europe/Berlin"
            raise ValueError(f"timezone is {self.timezone!r}, but must be {needed}") from None


def check_address(name: str, address: str) -> None:
    """Raise ValueError unless an address is that of a Ray cluster, for drivers that belong to it."""
    if not re.fullmatch(r"[^\s/]+:\d{1,5}", address):
        needed = "auto, local, or the address of a cluster such as host:6379"
        client = "; ray:// is not supported: start the run on a machine of the cluster"
        raise ValueError(f"{name} is {address!r}, but must be {needed}{client if '://' in address else ''}")
