"""Formats of raw samples, under the names that ffmpeg gives them."""

from typing import Literal

RawFormat = Literal["s16le", "s32le", "f32le", "f64le"]

#: NumPy's dtype of each format.
FORMATS: dict[RawFormat, str] = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4", "f64le": "<f8"}
