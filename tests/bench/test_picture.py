import matplotlib.image
import numpy as np
from example_run import changed, own_row

from toxicity.bench.picture import FILLS, draw
from toxicity.bench.results import results_of
from toxicity.bench.runs import published_rows


def test_a_panel_for_each_protocol(tmp_path):
    published = results_of(published_rows())
    draw([("published", published)], tmp_path / "one.png")
    other = changed(changed(own_row(), "metrics", "auc", None), "timing", "tokenizer_cache_hit", True)
    draw([("published", published), ("other", results_of([other]))], tmp_path / "two.png")
    one, two = (matplotlib.image.imread(tmp_path / name) for name in ("one.png", "two.png"))
    assert one.shape[1] == two.shape[1]
    assert one.shape[0] < two.shape[0]


def test_it_is_black_and_white(tmp_path):
    draw([("published", results_of(published_rows()))], tmp_path / "one.png")
    pixels = matplotlib.image.imread(tmp_path / "one.png")[..., :3]
    assert np.ptp(pixels, axis=-1).max() < 0.02


def test_more_machines_than_fills(tmp_path):
    rows = [own_row(f"gpu{index}") for index in range(len(FILLS) + 2)]
    draw([("many", results_of(rows))], tmp_path / "many.png")
    assert (tmp_path / "many.png").stat().st_size > 0
