import matplotlib
import matplotlib.image
import numpy as np
from example_run import changed, own_row
from matplotlib.colors import to_rgb

from toxicity.bench.picture import STYLE, draw
from toxicity.bench.results import results_of
from toxicity.bench.runs import published_rows

COLORS = matplotlib.rc_params_from_file(STYLE)["axes.prop_cycle"].by_key()["color"]


def test_a_panel_for_each_protocol(tmp_path):
    published = results_of(published_rows())
    draw([("published", published)], tmp_path / "one.png")
    other = changed(changed(own_row(), "metrics", "auc", None), "timing", "tokenizer_cache_hit", True)
    draw([("published", published), ("other", results_of([other]))], tmp_path / "two.png")
    one, two = (matplotlib.image.imread(tmp_path / name) for name in ("one.png", "two.png"))
    assert one.shape[1] == two.shape[1]
    assert one.shape[0] < two.shape[0]


def lightness(color):
    """L* of CIE 1976, 0 to 100: how light a colour is, and so how light its grey."""
    red, green, blue = ((c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in to_rgb(color))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return 116 * luminance ** (1 / 3) - 16


def test_colours_are_told_apart_in_grey():
    lightnesses = sorted(lightness(color) for color in COLORS)
    assert np.diff(lightnesses).min() > 8


def test_more_machines_than_colours(tmp_path):
    rows = [own_row(f"gpu{index}") for index in range(len(COLORS) + 2)]
    draw([("many", results_of(rows))], tmp_path / "many.png")
    assert matplotlib.image.imread(tmp_path / "many.png").std() > 0.01


def test_the_style_holds_for_the_picture_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    draw([("published", results_of(published_rows()))], tmp_path / "one.png")
    assert dict(matplotlib.rcParams) == before
