import matplotlib
import matplotlib.image
import pytest
from matplotlib.text import Text

from toxicity.bench.picture import STYLE


@pytest.fixture
def drawn(tmp_path):
    """Call it with a function and its arguments: the texts of the picture, after looking at its pixels."""

    def call(draw, *arguments):
        path = tmp_path / "picture.png"
        with matplotlib.rc_context(fname=STYLE):
            figure = draw(*arguments)
            figure.savefig(path)
        pixels = matplotlib.image.imread(path)[..., :3]
        assert pixels.std() > 0.01
        # A text that is cut would leave ink on the edge.
        edges = [pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]]
        assert all(edge.min() > 0.95 for edge in edges), "nothing is cut"
        return {text.get_text() for text in figure.findobj(Text)}

    return call
