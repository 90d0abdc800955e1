"""Reading, writing and changing audio, against slow or analytic answers."""

import math
import sys

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from l2i_fast import audio

from ..helpers import refused

QUICK = settings(max_examples=40, deadline=None)
RATES = st.sampled_from([100, 997, 8000, 11025, 16000, 22050, 44100, 48000, 96000])
SIGNALS = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-4, 4, width=32, allow_subnormal=False))


def rms(x):
    return math.sqrt(math.fsum(float(v) ** 2 for v in x) / len(x))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape).astype(np.float32)


# Reading


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize(
    ("ending", "subtype", "tolerance"),
    [
        (".wav", "FLOAT", 1e-7),
        (".wav", "DOUBLE", 1e-7),
        (".wav", "PCM_U8", 2**-7),
        (".wav", "PCM_16", 2**-15),
        (".wav", "PCM_24", 2**-23),
        (".wav", "PCM_32", 1e-7),
        (".wav", "ULAW", 0.04),
        (".flac", "PCM_S8", 2**-7),
        (".flac", "PCM_16", 2**-15),
        (".flac", "PCM_24", 2**-23),
        (".aiff", "PCM_16", 2**-15),
        (".aiff", "FLOAT", 1e-7),
        (".caf", "PCM_24", 2**-23),
        (".au", "PCM_16", 2**-15),
    ],
)
def test_reads_what_libsndfile_wrote(tmp_path, ending, subtype, tolerance, channels):
    x = noise(1001, channels)
    path = tmp_path / f"x{ending}"
    soundfile.write(path, x, 22050, subtype=subtype)
    y, sr = audio.read_audio(path)
    assert (y.dtype, y.shape, sr) == (np.float32, (1001,), 22050)
    np.testing.assert_allclose(y, x.astype(np.float64).mean(axis=1), rtol=0, atol=tolerance)


@pytest.mark.parametrize("ending", [".ogg", ".mp3"])
def test_reads_lossy_files(tmp_path, ending):
    t = np.arange(44100) / 44100
    x = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    soundfile.write(tmp_path / f"x{ending}", x, 44100)
    y, sr = audio.read_audio(str(tmp_path / f"x{ending}"))
    assert sr == 44100
    assert abs(len(y) - len(x)) <= 2304  # MP3 pads to whole frames
    assert np.abs(y[5000:40000]).max() == pytest.approx(0.5, abs=0.02)


def test_reads_in_blocks_what_is_longer_than_one(tmp_path, monkeypatch):
    x = noise(1000, 2)
    audio.write_audio(tmp_path / "x.wav", x, 8000)
    whole, _ = audio.read_audio(tmp_path / "x.wav")
    monkeypatch.setattr(audio, "_BLOCK", 77)
    np.testing.assert_array_equal(audio.read_audio(tmp_path / "x.wav")[0], whole)


def test_reads_one_sample_and_resamples_on_request(tmp_path):
    audio.write_audio(tmp_path / "one.wav", np.float32([0.25]), 44100)
    y, sr = audio.read_audio(tmp_path / "one.wav")
    assert (y.tolist(), sr) == ([0.25], 44100)
    y, sr = audio.read_audio(tmp_path / "one.wav", sr=96000)
    assert (len(y), sr) == (3, 96000)


def test_reads_real_recordings(esc10):
    path = esc10.clips[0].path
    y, sr = audio.read_audio(path)
    expected, rate = soundfile.read(path, dtype="float32")
    assert sr == rate
    np.testing.assert_array_equal(y, expected)


HERTZ = "must be a whole, positive number of Hz"
FINITE = "finite samples are needed"
PCM = "floating samples or int8, int16, int32, uint8 PCM are needed"


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.zeros(5), TypeError, "source is ndarray, but must be a path or (samples, rate)"),
        (None, TypeError, "source is NoneType, but must be a path or (samples, rate)"),
        ((np.zeros(5), 44100, 1), TypeError, "source is tuple, but must be a path or (samples, rate)"),
        ((np.zeros(5), 0), ValueError, f"the rate in source is 0, but {HERTZ}"),
        ((np.zeros(5), 44100.5), ValueError, f"the rate in source is 44100.5, but {HERTZ}"),
        ((np.zeros(5), math.nan), ValueError, f"the rate in source is nan, but {HERTZ}"),
        ((np.zeros(5), "44100"), TypeError, "the rate in source is str, but must be a number of Hz"),
        ((np.zeros(5), True), TypeError, "the rate in source is bool, but must be a number of Hz"),
        ((np.zeros(0), 44100), ValueError, "samples is empty, but at least one sample is needed"),
        ((np.zeros((5, 0)), 44100), ValueError, "samples is empty, but at least one sample is needed"),
        (
            (np.zeros((2, 44100)), 44100),
            ValueError,
            "samples has shape (2, 44100), but (N,) or (N, channels) is needed",
        ),
        (
            (np.zeros((2, 2, 2)), 44100),
            ValueError,
            "samples has shape (2, 2, 2), but (N,) or (N, channels) is needed",
        ),
        ((0.5, 44100), ValueError, "samples has shape (), but (N,) or (N, channels) is needed"),
        (
            (np.float32([0, np.nan]), 44100),
            ValueError,
            f"samples holds NaN or infinity (first at sample 1), but {FINITE}",
        ),
        (
            (np.float64([1e300]), 44100),
            ValueError,
            f"samples holds NaN or infinity (first at sample 0), but {FINITE}",
        ),
        ((np.zeros(5, complex), 44100), TypeError, f"samples has dtype complex128, but {PCM}"),
        ((np.zeros(5, bool), 44100), TypeError, f"samples has dtype bool, but {PCM}"),
        ((np.zeros(5, np.uint16), 44100), TypeError, f"samples has dtype uint16, but {PCM}"),
        ((["a"], 44100), TypeError, "samples is list, but an array of numbers or a tensor is needed"),
    ],
)
def test_refuses_what_is_not_audio(source, error, message):
    with refused(error, message):
        audio.read_audio(source)


def test_refuses_files_that_are_not_audio(tmp_path):
    with refused(FileNotFoundError, f"there is no file {tmp_path / 'none.wav'}"):
        audio.read_audio(tmp_path / "none.wav")
    with refused(ValueError, f"{tmp_path} is a folder, but must be a recording"):
        audio.read_audio(tmp_path)
    for name, content in [("text.wav", b"hello, this is not audio"), ("empty.wav", b"")]:
        path = tmp_path / name
        path.write_bytes(content)
        with refused(ValueError, f"{path} cannot be read as audio: Format not recognised"):
            audio.read_audio(path)
    (tmp_path / "a.raw").write_bytes(b"1234")
    with refused(ValueError, f"{tmp_path / 'a.raw'} cannot be read as audio: samplerate must be specified"):
        audio.read_audio(tmp_path / "a.raw")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 8000)
    with refused(ValueError, f"{tmp_path / 'none.wav'} is empty, but at least one sample is needed"):
        audio.read_audio(tmp_path / "none.wav")
    soundfile.write(tmp_path / "nan.wav", np.float32([0, np.nan]), 8000, subtype="FLOAT")
    with refused(ValueError, f"{tmp_path / 'nan.wav'} holds NaN or infinity (first at sample 1), but {FINITE}"):
        audio.read_audio(tmp_path / "nan.wav")


def test_says_which_package_is_missing(tmp_path, monkeypatch):
    audio.write_audio(tmp_path / "x.wav", noise(10), 8000)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setitem(sys.modules, "soxr", None)
    with refused(ImportError, "soundfile is needed to read x.wav; install it with: pip install soundfile"):
        audio.read_audio(tmp_path / "x.wav")
    with refused(ImportError, "soundfile is needed to write x.flac; install it with: pip install soundfile"):
        audio.write_audio(tmp_path / "x.flac", noise(10), 8000)
    with refused(ImportError, "soxr is needed to resample from 8000 to 16000 Hz; install it with: pip install soxr"):
        audio.resample(noise(10), 8000, 16000)
    audio.write_audio(tmp_path / "x.wav", noise(10), 8000)  # float WAV needs neither


# Conversion


@QUICK
@given(
    st.sampled_from([np.int8, np.int16, np.int32, np.uint8]).flatmap(
        lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=1, max_dims=2, max_side=8))
    )
)
def test_integer_pcm(x):
    bits = 8 * x.dtype.itemsize
    frames = x.reshape(len(x), -1).tolist()
    offset = 128 if x.dtype == np.uint8 else 0
    expected = [math.fsum((v - offset) / 2 ** (bits - 1) for v in frame) / len(frame) for frame in frames]
    y = audio.as_mono_float32(x)
    assert y.dtype == np.float32
    assert np.abs(y).max() <= 1
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", np.longdouble])
def test_floating_dtypes_and_strides(dtype):
    x = noise(40, 3).astype(dtype)
    for view in (x, x[::-1], x[::3], x[:, ::-1], np.asfortranarray(x), x[:, 1], x[::-2, 0]):
        expected = view.astype(np.float64) if view.ndim == 1 else view.astype(np.float64).mean(axis=1)
        y = audio.as_mono_float32(view)
        assert y.dtype == np.dtype(np.float32)
        assert y.flags.c_contiguous
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int16, torch.uint8])
def test_torch(dtype):
    x = (torch.arange(60).reshape(30, 2) * 0.01).to(dtype)
    expected = audio.as_mono_float32(x.float().numpy() if x.is_floating_point() else x.numpy())
    np.testing.assert_array_equal(audio.as_mono_float32(x), expected)
    assert audio.as_mono_float32(torch.ones(3, requires_grad=True)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, bool, complex])
def test_samples_of_unknown_full_scale_are_refused(dtype):
    with refused(TypeError, f"samples has dtype {np.dtype(dtype)}, but {PCM}"):
        audio.as_mono_float32(np.ones(5, dtype))


def test_float32_is_not_copied():
    x = noise(10)
    assert np.shares_memory(audio.as_mono_float32(x), x)


# Writing


@QUICK
@given(
    x=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=2, max_side=6),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_float_wav_keeps_every_bit(tmp_path_factory, x):
    path = audio.write_audio(tmp_path_factory.mktemp("w") / "x.wav", x, 44100)
    back, sr = soundfile.read(path, dtype="float32", always_2d=True)
    assert sr == 44100
    np.testing.assert_array_equal(back, x.reshape(len(x), -1))


@pytest.mark.parametrize(
    ("ending", "subtype", "stored"),
    [(".wav", None, "FLOAT"), (".wav", "PCM_16", "PCM_16"), (".flac", None, "PCM_24"), (".FLAC", "PCM_16", "PCM_16")],
)
def test_writes_the_same_bytes_each_time(tmp_path, ending, subtype, stored):
    x = noise(5000, 2)
    paths = [audio.write_audio(tmp_path / "new" / f"{i}{ending}", x, 16000, subtype) for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"PEAK" not in paths[0].read_bytes()[:200]  # libsndfile's chunk with the time of day
    assert soundfile.info(paths[0]).subtype == stored
    back, _ = soundfile.read(paths[0], dtype="float32")
    np.testing.assert_allclose(back, x, rtol=0, atol=2**-15 if "16" in stored else 2**-23)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [f"0{ending}", f"1{ending}"]


def test_integer_files_clip(tmp_path):
    path = audio.write_audio(tmp_path / "x.flac", np.float64([2, -2, 0.5]), 8000)
    np.testing.assert_allclose(soundfile.read(path)[0], [1, -1, 0.5], atol=2**-22)


SHAPE = "(N,) or (N, channels) with at least one sample is needed"


@pytest.mark.parametrize(
    ("name", "samples", "rate", "subtype", "error", "message"),
    [
        ("x.mp3", noise(5), 8000, None, ValueError, "path is 'x.mp3', but must end in .wav or .flac"),
        ("x", noise(5), 8000, None, ValueError, "path is 'x', but must end in .wav or .flac"),
        ("x.wav", noise(0), 8000, None, ValueError, f"samples has shape (0,), but {SHAPE}"),
        ("x.wav", noise(2, 2, 2), 8000, None, ValueError, f"samples has shape (2, 2, 2), but {SHAPE}"),
        ("x.wav", np.zeros(5, int), 8000, None, TypeError, "samples has dtype int64, but floating samples are needed"),
        ("x.wav", np.float32([np.inf]), 8000, None, ValueError, f"samples holds NaN or infinity, but {FINITE}"),
        ("x.wav", noise(5), -1, None, ValueError, f"sr is -1, but {HERTZ}"),
        (
            "x.wav",
            noise(5),
            8000,
            "PCM_99",
            ValueError,
            ".../x.wav cannot be written as PCM_99 with shape (5,) at 8000 Hz: Unknown subtype: 'PCM_99'",
        ),
        (
            "x.flac",
            noise(5),
            8000,
            "FLOAT",
            ValueError,
            ".../x.flac cannot be written as FLOAT with shape (5,) at 8000 Hz: "
            "Invalid combination of format, subtype and endian",
        ),
    ],
)
def test_a_refused_write_leaves_what_was_there(tmp_path, name, samples, rate, subtype, error, message):
    (tmp_path / name).write_bytes(b"old")
    with refused(error, message):
        audio.write_audio(tmp_path / name, samples, rate, subtype)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {name: b"old"}


def test_too_many_channels_leave_what_was_there(tmp_path):
    path = tmp_path / "x.flac"
    path.write_bytes(b"old")
    with refused(ValueError, f"{path} cannot be written as PCM_24 with shape (5, 9) at 8000 Hz: Format not recognised"):
        audio.write_audio(path, noise(5, 9), 8000)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"x.flac": b"old"}


# Resampling


@QUICK
@given(y=SIGNALS, orig=RATES, target=RATES)
def test_resampled_length(y, orig, target):
    z = audio.resample(y, orig, target)
    assert z.dtype == np.float32
    assert len(z) == math.ceil(len(y) * target / orig)
    np.testing.assert_array_equal(z, audio.resample(y, orig, target))
    if orig == target:
        np.testing.assert_array_equal(z, y)


@QUICK
@given(y=SIGNALS, gain=st.sampled_from([-1.0, 0.0, 0.25, 2.0]))
def test_resampling_is_linear(y, gain):
    z = audio.resample(y, 44100, 16000)
    np.testing.assert_allclose(audio.resample(np.float32(gain) * y, 44100, 16000), gain * z, atol=1e-6)


@pytest.mark.parametrize(("orig", "target"), [(44100, 16000), (16000, 44100), (48000, 44100), (22050, 44100)])
@pytest.mark.parametrize(("place", "tolerance"), [(0.1, 2e-5), (0.88, 2e-3)])
def test_resampling_keeps_a_sine_and_its_time(orig, target, place, tolerance):
    hertz = place * min(orig, target) / 2

    def sine(rate):
        return np.sin(2 * np.pi * hertz * np.arange(rate) / rate).astype(np.float32)

    z = audio.resample(sine(orig), orig, target)
    inside = slice(target // 10, -target // 10)
    np.testing.assert_allclose(z[inside], sine(target)[inside], rtol=0, atol=tolerance)


def test_resampling_removes_what_would_alias():
    y = np.sin(2 * np.pi * 12000 * np.arange(44100) / 44100)
    assert rms(audio.resample(y, 44100, 16000)[1000:-1000]) < 1e-5


@pytest.mark.parametrize(
    ("rates", "bad"), [((0, 8000), "orig_sr is 0"), ((8000, -1), "target_sr is -1"), ((8000, 1.5), "target_sr is 1.5")]
)
def test_resampling_refuses_rates(rates, bad):
    with refused(ValueError, f"{bad}, but {HERTZ}"):
        audio.resample(noise(5), *rates)


# Levels


@QUICK
@given(y=SIGNALS, mode=st.sampled_from(["absolute", "signed"]))
def test_peak_scaling(y, mode):
    scaled, scale = audio.scale_to_peak(y, mode)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.astype(np.float64) * scale, y, rtol=1e-6, atol=0)
    if not y.any():
        assert scale == 1
    elif mode == "absolute":
        assert np.abs(scaled).max() == 1
    elif y.max() > 1e-3:
        assert scaled.max() == 1
        assert scale == y.max()


def test_peak_scaling_at_its_edges():
    assert audio.scale_to_peak([-0.5, -0.25], "signed")[0].tolist() == [-1, -0.5]
    assert audio.scale_to_peak([-0.5, 0.0], "signed")[1] == 0.5
    assert audio.scale_to_peak([-1.0, 1e-30], "signed")[1] == 1
    tiny = np.float32([1e-45, -1e-45])
    assert audio.scale_to_peak(tiny)[0].tolist() == [1, -1]
    assert audio.scale_to_peak([3e38, -1.0])[0][0] == 1
    with refused(ValueError, "mode is 'max', but must be 'absolute' or 'signed'"):
        audio.scale_to_peak([1.0], "max")


@pytest.mark.parametrize(("shape", "sr"), [((2, 70000), 44100), ((5, 4000), 10_000_000)])
def test_shapes_that_wav_cannot_hold(tmp_path, shape, sr):
    path = tmp_path / "x.wav"
    with refused(ValueError, f"{path} cannot be written as FLOAT with shape {shape} at {sr} Hz: ..."):
        audio.write_audio(path, np.zeros(shape, np.float32), sr)
    assert list(tmp_path.iterdir()) == []
