"""When a recording was made, from its file's name and from what the recorder wrote into it; never guessed.

Recorders state a time with its zone, or a local time without one. A local time gives a clock time only if the user
names the zone of the recorders, and if it stands for one moment: not in an hour that a change of clocks repeats or
leaves out.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, BinaryIO, NamedTuple

from l2i_fast.recording import import_optional

#: Times in names: the day, the time of day, a fraction of its last second, a zone.
_TIME = re.compile(
    r"(?<!\d)(?P<year>\d{4})(?P<dash>[-_.]?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"(?P<between>[T_ -]+)"
    r"(?P<hour>\d\d)(?P<colon>[-_.:h]?)(?P<minute>\d\d)(?:(?P=colon)|m)(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
    r"(?P<zone>Z(?![A-Za-z])|[+-]\d\d:?\d\d(?!\d))?(?!\d)"
)
#: AudioMoth's older names: seconds since 1970 in hexadecimal digits, from 2017 to 2038.
_HEXADECIMAL = re.compile(r"(?=[0-9A-F]*[A-F])[5-7][0-9A-F]{7}")
_FIRST, _LAST = 0x58684680, 0x7FFFFFFF
#: AudioMoth's comment in a WAV file.
_COMMENT = re.compile(
    r"Recorded at (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))? (\d\d)/(\d\d)/(\d{4}) \(UTC(?:([+-])(\d{1,2})(?::(\d\d))?)?\)"
)
_GUANO = re.compile(r"^Timestamp *: *(\S.*?) *$", re.MULTILINE)
#: Years of recordings: others are numbers of another kind, or of a clock that was never set.
_YEARS = range(1900, 2200)
#: Largest distance of a zone from UTC.
_FARTHEST = timedelta(hours=14)


class Clock(NamedTuple):
    """Beginning of a recording.

    Attributes
    ----------
    start : datetime
        UTC.
    source : str
        Where it stands: "guano", "comment" (of AudioMoth), "bext" or "name"; with ", zone given" if the user names the
        zone.
    """

    start: datetime
    source: str


def find_start(name: str, file: BinaryIO | None = None, zone: tzinfo | None = None) -> Clock | None:
    """Return when a recording begins, or None where that is not stated or is ambiguous.

    Of several places the first that states a moment counts: GUANO metadata, AudioMoth's comment and Broadcast Wave's
    `bext` in a WAV file, then the name.

    Parameters
    ----------
    name : str
        Name of the file, without its folders.
    file : binary file, optional
        The recording, for its metadata.
    zone : tzinfo, optional
        Zone of times that are stated without one.

    Raises
    ------
    ImportError
        A WAV file is given and wavinfo is not installed.
    """
    times = _from_metadata(file) if file is not None else {}
    if (time := from_name(name)) is not None:
        times["name"] = time
    for source, time in times.items():
        if time.tzinfo is not None:
            return Clock(time.astimezone(UTC), source)
        if zone is not None and (moment := _moment(time, zone)) is not None:
            return Clock(moment, f"{source}, zone given")
    return None


def from_name(name: str) -> datetime | None:
    """Return the time in the name of a file, with its zone if it states one; None if there is none or several.

    Names: ``20240102_030405.WAV`` of AudioMoth and Song Meter with any prefix, ISO 8601 with and without separators
    and zone, a start and an end (``S20240102T030405+0000_E20240102T031405+0000``), and AudioMoth's older
    ``5E9A1B2C.WAV``.
    """
    stem, _, ending = name.rpartition(".") if "." in name else (name, "", "")
    if _HEXADECIMAL.fullmatch(stem) and ending.lower() in ("wav", "flac") and _FIRST <= int(stem, 16) <= _LAST:
        return datetime.fromtimestamp(int(stem, 16), UTC)
    times = [_to_time(found) for found in _TIME.finditer(name)]
    if not times or None in times or len(times) > 2:
        return None
    first, *second = times
    assert first is not None
    for end in second:  # a start and an end
        if end is None or (end.tzinfo is None) != (first.tzinfo is None) or end <= first:
            return None
    return first


def _to_time(found: re.Match[str]) -> datetime | None:
    zone = found["zone"] or ""
    # Behind other names than those of ISO 8601, "-0100" may as well be a number.
    if zone.startswith("-") and "T" not in found["between"]:
        zone = ""
    return _time(
        found.group("year", "month", "day", "hour", "minute", "second"),
        fraction=found["fraction"],
        zone="+0000" if zone == "Z" else zone.replace(":", ""),
    )


def _time(numbers: Sequence[str], fraction: str | None = None, zone: str = "") -> datetime | None:
    """Return the time of year, month and so on to the second, or None for one that no calendar or recorder has.

    `zone` is empty or like "+0130".
    """
    microsecond = int((fraction or "0").ljust(6, "0")[:6])
    offset = None
    if zone:
        distance = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
        if distance > _FARTHEST or int(zone[3:]) % 15:
            return None
        offset = timezone(-distance if zone[0] == "-" else distance)
    try:
        year, month, day, hour, minute, second = map(int, numbers)
        if year not in _YEARS:
            return None
        return datetime(year, month, day, hour, minute, second, microsecond, offset)
    except ValueError:
        return None


def _moment(time: datetime, zone: tzinfo) -> datetime | None:
    """Return the moment of a local time in a zone; None if a change of clocks repeats it or leaves it out."""
    earlier, later = (time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return earlier if earlier == later else None


def _from_metadata(file: BinaryIO) -> dict[str, datetime]:
    """Return the times that a WAV file states, by where; an empty one for other files and for damaged ones."""
    file.seek(0)
    if file.read(4) not in (b"RIFF", b"RF64", b"BW64"):
        return {}
    file.seek(0)
    wavinfo = import_optional("wavinfo", "read the times in WAV files")
    times: dict[str, datetime | None] = {}
    try:
        reader = wavinfo.WavInfoReader(file)
        for chunk in reader.main_list:
            if getattr(chunk, "ident", b"") == b"guan":
                times["guano"] = _from_guano(chunk.read_data(file))
        if reader.info is not None:
            times["comment"] = _from_comment(str(reader.info.comment or ""))
        if reader.bext is not None:
            times["bext"] = _from_bext(reader.bext)
    except (AssertionError, AttributeError, EOFError, LookupError, OSError, StopIteration, ValueError, struct.error):
        pass  # a header that wavinfo cannot follow states no time; the samples may be read all the same
    return {source: time for source, time in times.items() if time is not None}


def _from_guano(data: bytes) -> datetime | None:
    """Read GUANO's Timestamp, ISO 8601 with or without a zone."""
    if not (found := _GUANO.search(data.decode("utf-8", "replace"))):
        return None
    try:
        time = datetime.fromisoformat(found[1])
        return time if time.year in _YEARS else None
    except ValueError:
        return None


def _from_comment(text: str) -> datetime | None:
    """Read AudioMoth's comment, which states the zone of its clock."""
    if not (found := _COMMENT.search(text)):
        return None
    hour, minute, second, fraction, day, month, year, sign, hours, minutes = found.groups()
    zone = f"{sign or '+'}{int(hours or 0):02d}{int(minutes or 0):02d}"
    return _time((year, month, day, hour, minute, second), fraction=fraction, zone=zone)


def _from_bext(bext: Any) -> datetime | None:
    """Read Broadcast Wave's origination, a local time without a zone (EBU Tech 3285)."""
    digits = re.fullmatch(
        r"(\d{4})\D(\d\d)\D(\d\d) (\d\d)\D(\d\d)\D(\d\d)", f"{bext.originator_date} {bext.originator_time}"
    )
    return _time(digits.groups()) if digits else None
