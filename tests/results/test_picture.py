"""The picture: what it shows, that nothing in it overlaps, and that its size does not grow with the recording."""

import dataclasses
import io
import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib import rc_context, rcParams
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_hex
from matplotlib.image import imread

from l2i_fast.results import Explanation, Result
from l2i_fast.results import picture as plot

LABELS = ("dog", "rain", "sea waves")


def make(n_samples=44100, selected=5, supported=True, source="clip.wav", labels=LABELS, n_components=100):
    """A result with noise for sound, whose interpretation is half as loud."""
    rng = np.random.default_rng(1)
    sound = rng.standard_normal(n_samples).astype(np.float32) / 9
    dictionary = rng.random((513, n_components), np.float32)
    activations = rng.random((n_components, 1 + n_samples // 512), np.float32)
    components = tuple(int(k) for k in rng.permutation(n_components)[:selected])
    relevance = rng.uniform(-1.5, 0.2, n_components).astype(np.float32) * supported
    relevance[list(components)] = np.linspace(1, 0.25, selected)
    explanation = Explanation(0, labels[0], 0.98, supported, relevance, components, sound * 0.5 * supported)
    settings = {"n_fft": 1024, "hop_length": 512, "threshold": 0.2, "top_k": 5, "domain": "log"}
    probabilities = np.array([0.98, 0.01, 0.01], np.float32)
    return Result(
        source,
        44100,
        sound,
        labels,
        probabilities,
        (labels[0],),
        activations,
        dictionary,
        [explanation],
        settings,
    )


def masked(n_samples=44100, n_parts=24, selected=3, supported=True):
    """A result of a method without a dictionary, which weighs parts of its own."""
    result = make(n_samples, selected, supported, n_components=n_parts or 1)
    n_frames = 1 + n_samples // 512
    mask = np.linspace(0, 1, 513 * n_frames, dtype=np.float32).reshape(513, n_frames)
    explanation = dataclasses.replace(
        result.explanations[0],
        mask=mask,
        relevance=result.relevance[:n_parts],
        components=result.components if n_parts else (),
    )
    nothing = {"activations": np.zeros((0, n_frames), np.float32), "dictionary": np.zeros((513, 0), np.float32)}
    return dataclasses.replace(result, method="slime", explanations=[explanation], **nothing)


class Recorder(RendererAgg):
    """Remembers each text that is really drawn, and its box in pixels."""

    def __init__(self, *args):
        super().__init__(*args)
        self.texts = []

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        self.texts.append((f"formula {s}" if ismath else s, mtext.get_window_extent(self)))
        super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)


def drawn(result):
    return plot.draw(result, result.explanations[0])


def shown_texts(figure):
    recorder = Recorder(*figure.canvas.get_width_height(), figure.dpi)
    figure.draw(recorder)
    return recorder.texts


def words(result):
    return " | ".join(text for text, _ in shown_texts(drawn(result)))


LONG = "recordings/2024-03-11 the garden behind the house, north side, microphone 2, copy $1_0 [raw] 录音 \n\x07.wav"
CASES = {
    "five": make(),
    "one": make(selected=1),
    "twelve": make(selected=12),
    "all of one": make(selected=1, n_components=1),
    "none": make(selected=0, supported=False),
    "10 ms": make(441),
    "one sample": make(1),
    "ten minutes": make(600 * 44100),
    "long names": make(source=LONG, labels=("a $label$ of very many words, of 釘 and [wood] and still more", "b", "c")),
    "parts": masked(),
    "no part": masked(selected=0, supported=False),
    "mask alone": masked(n_parts=0, selected=0),
    "mask of one sample": masked(1),
    "mask of ten minutes": masked(600 * 44100, n_parts=0, selected=0),
    "silence": dataclasses.replace(make(selected=0, supported=False), input=np.zeros(44100, np.float32)),
}


@pytest.mark.parametrize("case", CASES)
def test_no_text_overlaps_another_or_leaves_the_picture(case):
    figure = drawn(CASES[case])
    shown = shown_texts(figure)
    assert len(shown) > 20
    for text, box in shown:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (one, box), (other, its) in itertools.combinations(shown, 2):
        assert not box.padded(-1).overlaps(its.padded(-1)), (one, other)


@pytest.mark.parametrize("case", ["one sample", "ten minutes", "mask of one sample", "mask alone"])
def test_every_picture_has_one_size(case, tmp_path):
    plot.save_picture(tmp_path / "a.png", CASES[case], CASES[case].explanations[0])
    assert imread(tmp_path / "a.png").shape[:2] == (1105, 1690)
    assert (tmp_path / "a.png").stat().st_size < 800_000


def test_title_says_file_class_probability_and_what_is_explained():
    result = make()
    other = dataclasses.replace(result.explanations[0], target=1, label="rain", probability=0.01)
    text = words(dataclasses.replace(result, source="some/where/clip.wav", explanations=[other]))
    assert "clip.wav: heard as dog (98 %)" in text
    assert "some/where" not in text
    assert "“rain”, 1 %?" in text
    assert "5 of 100 components" in text


def test_unsupported_class_is_said_to_be_so():
    text = words(CASES["none"])
    assert "No component speaks for it" in text
    assert "no component supports this class" in text
    assert "silence" in text
    assert "silence" not in words(CASES["five"])


def test_without_a_dictionary_the_method_is_named_and_no_component_is():
    assert "Explained by “slime”: 3 of 24 parts" in words(CASES["parts"])
    assert "Explained by “slime”." in words(CASES["mask alone"])
    assert "Nothing speaks for it" in words(CASES["no part"])
    for case in ("parts", "mask alone", "no part"):
        assert "omponent" not in words(CASES[case])


def test_relevance_of_parts_marks_those_selected():
    (relevance,) = [axes for axes in drawn(CASES["parts"]).axes if axes.get_title(loc="left").startswith("Relevance")]
    result = CASES["parts"]
    assert [bar.get_height() for bar in relevance.patches] == pytest.approx(result.relevance.tolist())
    marked = {k for k, bar in enumerate(relevance.patches) if to_hex(bar.get_facecolor()) == plot.COLOURS[0]}
    assert marked == set(result.components)
    assert not any(axes.get_title(loc="left").startswith("Relevance") for axes in drawn(CASES["mask alone"]).axes)


def test_the_mask_is_drawn_from_its_least_to_its_greatest_value():
    (axes,) = [axes for axes in drawn(CASES["parts"]).axes if axes.get_title(loc="left").startswith("The mask")]
    cells = np.asarray(axes.images[0].get_array())
    mask = CASES["parts"].explanations[0].mask
    assert cells.shape == (plot.N_ROWS, mask.shape[1])
    assert cells[-1, -1] == mask.max() == 1
    assert np.array_equal(cells[0], mask[0])
    assert axes.images[0].get_clim() == (0, 1)


def test_nothing_decided_on_is_said_to_be_so():
    assert "heard as none of the classes" in words(dataclasses.replace(make(), prediction=()))


def test_labels_are_not_read_as_formulas():
    assert "$label$" in words(CASES["long names"])
    assert "formula" not in words(CASES["long names"])


@pytest.mark.parametrize(
    ("case", "unit"), [("10 ms", "Time (ms)"), ("five", "Time (s)"), ("ten minutes", "Time (min:s)")]
)
def test_unit_of_time_suits_the_duration(case, unit):
    assert unit in words(CASES[case])


def test_a_component_has_one_colour_in_every_panel():
    result = make(selected=3)
    _, _, _, spectra, relevance, activations, key = drawn(result).axes
    components = result.components
    expected = dict(zip(components, plot.COLOURS, strict=False))
    assert [to_hex(lane.get_facecolor()) for lane in spectra.collections] == [expected[k] for k in components]
    assert [label.get_text() for label in spectra.get_xticklabels()] == [str(k) for k in components]
    assert [line.get_color() for line in activations.lines] == [expected[k] for k in reversed(components)]
    assert [line.get_color() for line in key.lines] == [expected[k] for k in components]
    bars = relevance.patches
    assert len(bars) == 100
    for k in components:
        assert to_hex(bars[k].get_facecolor()) == expected[k]
    assert [bar.get_height() for bar in bars] == pytest.approx(result.relevance.tolist())
    assert len({bar.get_facecolor() for bar in bars}) == 4


def test_what_speaks_against_a_class_does_not_hide_what_speaks_for_it():
    result = make(selected=2)
    result.relevance[result.relevance < 0] *= 1000
    relevance = drawn(result).axes[4]
    assert relevance.get_ylim() == (-2.0, 1.15)


def test_more_components_than_colours_are_counted():
    assert "and 6 less relevant" in words(CASES["twelve"])


def test_both_spectrograms_share_one_scale():
    heard, kept, *_ = drawn(make()).axes
    assert heard.images[0].get_clim() == kept.images[0].get_clim() == (-80, 0)
    difference = heard.images[0].get_array() - kept.images[0].get_array()
    assert np.median(np.asarray(difference)) == pytest.approx(20 * np.log10(2), abs=1e-3)


@pytest.mark.parametrize(
    ("n_samples", "n_fft", "hop"), [(1, 1024, 512), (4000, 1024, 512), (70_001, 256, 100), (400_003, 64, 33)]
)
def test_picture_cells_hold_the_largest_magnitude(rng, n_samples, n_fft, hop):
    y = rng.standard_normal(n_samples).astype(np.float32)
    padded = np.pad(y, (n_fft // 2, n_fft // 2 + n_fft))
    frames = [
        np.abs(np.fft.rfft(padded[t * hop : t * hop + n_fft] * np.hanning(n_fft + 1)[:-1]))
        for t in range(1 + n_samples // hop)
    ]
    magnitude = np.array(frames).T
    starts = plot._column_starts(len(frames))
    ends = [*starts[1:], len(frames)]
    hertz = plot._hertz(np.linspace(0, plot._mel(22050), plot.N_ROWS + 1)[:-1])
    low = [min(round(f * n_fft / 44100), n_fft // 2) for f in hertz]
    high = [max(a + 1, b) for a, b in itertools.pairwise([*low, n_fft // 2 + 1])]
    expected = np.array(
        [
            [magnitude[f0:f1, t0:t1].max() for t0, t1 in zip(starts, ends, strict=True)]
            for f0, f1 in zip(low, high, strict=True)
        ]
    )
    found = plot._picture_of(y, 44100, n_fft, hop)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * expected.max()


def test_columns_are_bounded_and_cover_every_frame(rng):
    for n_frames in [1, 2, plot.MAX_COLUMNS, plot.MAX_COLUMNS + 1, *rng.integers(1, 1_000_000, 50)]:
        starts = plot._column_starts(int(n_frames))
        assert len(starts) == min(n_frames, plot.MAX_COLUMNS)
        assert starts[0] == 0
        assert starts[-1] < n_frames
        assert (np.diff(starts) > 0).all()


def test_pictures_drawn_in_threads_equal_those_drawn_alone():
    def picture(case):
        buffer = io.BytesIO()
        plot.save_picture(buffer, CASES[case], CASES[case].explanations[0])
        return buffer.getvalue()

    cases = ["five", "one", "none", "10 ms"]
    alone = [picture(case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(picture, cases)) == alone


def test_the_picture_is_independent_of_the_users_settings_which_remain():
    case = CASES["five"]

    def picture():
        buffer = io.BytesIO()
        plot.save_picture(buffer, case, case.explanations[0])
        return buffer.getvalue()

    plain = picture()
    users = {"text.usetex": True, "savefig.dpi": 30, "savefig.bbox": "tight", "axes.facecolor": "red", "font.size": 30}
    with rc_context(users):
        before = dict(rcParams)
        assert picture() == plain
        assert dict(rcParams) == before


def test_drawing_does_not_touch_pyplot():
    code = "import sys, l2i_fast.results.picture; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
