import re

import matplotlib.image
from builders import ROOT

from benchmarks.chart import PANELS, draw, read_numbers


def test_the_chart_is_drawn_from_the_numbers_in_the_documentation(tmp_path):
    numbers, page = read_numbers(), (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    cells = set(re.findall(r"\| *([0-9.]+) *(?=\|)", page))
    for contenders in PANELS.values():
        for section, key in contenders.values():
            assert f"{numbers[section][key]:.2f}" in cells
    draw(numbers, tmp_path / "chart.png")
    drawn, kept = (matplotlib.image.imread(path) for path in (tmp_path / "chart.png", ROOT / "docs/benchmarks.png"))
    assert drawn.shape == kept.shape
