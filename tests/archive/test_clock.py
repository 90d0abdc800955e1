"""When a recording was made: names of recorders, metadata in WAV files, and what must not be guessed."""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2i_fast.archive.clock import find_start, from_name

NOON = datetime(2024, 3, 9, 12, 34, 56)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "name",
    [
        "20240309_123456.WAV",  # AudioMoth
        "SMU01234_20240309_123456.wav",  # Song Meter
        "S4A05567_20240309_123456_000.wav",
        "site 7_2024-03-09_12-34-56.flac",
        "2024-03-09 12:34:56.ogg",
        "20240309T123456.wav",
        "20240309-123456.wav",
        "20240309_123456-0500.wav",  # a zone or a number
        "20240309_123456_20240309_124456.wav",  # start and end
    ],
)
def test_a_local_time_is_a_moment_only_in_a_zone_that_is_given(name: str) -> None:
    assert from_name(name) == NOON
    assert find_start(name) is None
    assert find_start(name, zone=BERLIN) == (datetime(2024, 3, 9, 11, 34, 56, tzinfo=UTC), "name, zone given")


@pytest.mark.parametrize(
    ("name", "hours"),
    [
        ("20240309_123456Z.wav", 0),
        ("20240309T123456Z.wav", 0),
        ("2024-03-09T12:34:56+01:00.wav", 1),
        ("20240309T123456+0930_reef.flac", 9.5),
        ("20240309_123456+0545.wav", 5.75),
        ("20240309T123456-0330.wav", -3.5),
        ("S20240309T123456.000000+0930_E20240309T124456.999750+0930_+12.34567+123.45678.wav", 9.5),
    ],
)
def test_a_time_with_its_zone_is_a_moment(name: str, hours: float) -> None:
    wanted = NOON.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert find_start(name, zone=BERLIN) == (wanted, "name")


def test_hexadecimal_names_are_seconds_since_1970() -> None:
    assert find_start("5E9A1B2C.WAV") == (datetime.fromtimestamp(0x5E9A1B2C, UTC), "name")


@pytest.mark.parametrize(
    "name",
    [
        "recording.wav",
        "20240309.wav",  # a day; also hexadecimal digits
        "59000000.wav",  # eight decimal digits
        "FFFFFFFF.wav",  # after 2038
        "5E9A1B2C.txt",
        "5E9A1B2C-2.wav",
        "20241309_123456.wav",  # no such month
        "20240309_246060.wav",
        "99991231_235957Z.wav",
        "00010101T000000+1400.wav",
        "120240309_123456.wav",  # a longer number
        "20240309_1234567.wav",
        "20240309T123456+9900.wav",  # no such zone
        "20240309_123456_20240309_113456.wav",  # an end before the start
        "20240309_123456_20240309_123556_20240309_123656.wav",
        "20240309_123456_20240309T113456Z.wav",  # one with a zone, one without
        "",
    ],
)
def test_nothing_is_guessed(name: str) -> None:
    assert from_name(name) is None
    assert find_start(name, zone=BERLIN) is None


def test_hours_that_clocks_repeat_or_leave_out_are_no_moment() -> None:
    assert find_start("20241027_013000.wav", zone=BERLIN) is not None
    assert find_start("20241027_023000.wav", zone=BERLIN) is None  # twice
    assert find_start("20240331_023000.wav", zone=BERLIN) is None  # never


@given(
    st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)).map(lambda t: t.replace(microsecond=0)),
    st.integers(-48, 56),
    st.sampled_from(["", "S4A_", "réserve 3_", "x+y-"]),
)
def test_written_times_are_read_back(time: datetime, quarters: int, prefix: str) -> None:
    time = time.replace(tzinfo=timezone(timedelta(minutes=15 * quarters)))
    for style in ("%Y%m%dT%H%M%S%z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H-%M-%S%z"):
        assert from_name(f"{prefix}{time.strftime(style)}.wav") == time


def wav(*chunks: tuple[bytes, bytes], samples: bytes = bytes(8)) -> io.BytesIO:
    parts = [(b"fmt ", struct.pack("<HHIIHH", 3, 1, 48000, 192000, 4, 32)), *chunks, (b"data", samples)]
    body = b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in parts)
    return io.BytesIO(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body)


def guano(text: str) -> tuple[bytes, bytes]:
    return b"guan", f"GUANO|Version: 1.0\nMake: Café\nTimestamp: {text}\nLoc Position: 1 2\n".encode()


def comment(text: str) -> tuple[bytes, bytes]:
    data = text.encode("latin-1") + b"\0" * (2 - len(text) % 2)
    return b"LIST", b"INFOICMT" + struct.pack("<I", len(data)) + data


def bext(day: str, time: str) -> tuple[bytes, bytes]:
    return b"bext", bytes(320) + day.encode() + time.encode() + bytes(602 - 320 - 18)


MOTH = "Recorded at 12:34:56 09/03/2024 ({}) by AudioMoth 24F3190361CA8D9E at medium gain while battery was 4.1V."


@pytest.mark.parametrize(
    ("chunks", "start", "source"),
    [
        ([guano("2024-03-09T12:34:56+02:00")], NOON - timedelta(hours=2), "guano"),
        ([guano("2024-03-09T12:34:56.5Z")], NOON + timedelta(seconds=0.5), "guano"),
        ([guano("2024-03-09 12:34:56")], NOON - timedelta(hours=1), "guano, zone given"),
        ([comment(MOTH.format("UTC"))], NOON, "comment"),
        ([comment(MOTH.format("UTC+1"))], NOON - timedelta(hours=1), "comment"),
        ([comment(MOTH.format("UTC-3:30"))], NOON + timedelta(hours=3.5), "comment"),
        ([bext("2024-03-09", "12:34:56")], NOON - timedelta(hours=1), "bext, zone given"),
        ([bext("2024:03:09", "12-34-56"), comment(MOTH.format("UTC"))], NOON, "comment"),
        ([guano("soon"), bext("0000-00-00", "00:00:00")], NOON - timedelta(days=60), "name"),
        ([guano("soon"), bext("", "")], NOON - timedelta(days=60), "name"),
        ([], NOON - timedelta(days=60), "name"),
    ],
)
def test_metadata_comes_before_the_name(chunks: list[tuple[bytes, bytes]], start: datetime, source: str) -> None:
    name = f"{(NOON - timedelta(days=60)).isoformat()}Z.wav"
    assert find_start(name, wav(*chunks), BERLIN) == (start.replace(tzinfo=UTC), source)


@given(st.binary(max_size=200))
def test_damaged_metadata_states_no_time(junk: bytes) -> None:
    for file in (io.BytesIO(junk), io.BytesIO(b"RIFF" + junk), io.BytesIO(wav(guano("x")).getvalue()[:60] + junk)):
        assert find_start("a.wav", file, BERLIN) is None
