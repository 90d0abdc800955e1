"""The formats of the sound files of a result; a module without imports that cost time, for the command line's help."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

AudioFormat: TypeAlias = Literal["wav", "flac"]
AUDIO_FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)
