import numpy as np

from toxicity.core.schema import hard_labels


def test_one_half_is_toxic():
    labels = hard_labels(np.array([0.0, 0.4999, 0.5, 1.0]))
    assert labels.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert labels.dtype == np.float32
