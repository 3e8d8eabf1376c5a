import itertools

import pytest

from toxicity.hardware import timing
from toxicity.hardware.timing import PhaseClock


@pytest.fixture
def clock(monkeypatch):
    """A clock on which one second passes between two readings."""
    seconds = itertools.count()
    monkeypatch.setattr(timing, "perf_counter", lambda: float(next(seconds)))
    return PhaseClock()


def test_a_phase_is_charged_its_time(clock):
    with clock.phase("training"):
        pass
    assert clock.seconds == {"training": 1.0}


def test_a_nested_phase_stops_the_outer_one(clock):
    with clock.phase("training"):  # looks at 0, 1, 2, 3
        with clock.phase("evaluation"):
            pass
    assert clock.seconds == {"training": 2.0, "evaluation": 1.0}


def test_time_between_phases_is_charged_to_none(clock):
    with clock.phase("tokenizer"):
        pass
    with clock.phase("tokenizer"):
        pass
    assert clock.seconds == {"tokenizer": 2.0}


def test_a_phase_that_fails_is_closed(clock):
    with pytest.raises(ValueError, match="boom"), clock.phase("training"):
        raise ValueError("boom")
    with clock.phase("inference"):
        pass
    assert clock.seconds == {"training": 1.0, "inference": 1.0}
