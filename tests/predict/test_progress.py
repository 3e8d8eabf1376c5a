import logging

from toxicity.predict import progress
from toxicity.predict.progress import Progress, progress_shown


def test_time_left_goes_by_the_bytes_of_all_processes(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    alone, one_of_two = Progress(1000), Progress(1000, processes=2)
    clock[0] = 110.0
    for shown in (alone, one_of_two):
        shown.add(50, 250)
    assert alone.line() == "50 rows scored, 5 rows/s, 0:00:30 left"
    assert one_of_two.line() == "50 rows scored, 5 rows/s in this of 2 processes, 0:00:10 left"
    unknown = Progress(0)
    unknown.add(7, 0)
    assert "left" not in unknown.line()


def test_nothing_is_left_of_a_shard_that_failed(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown = Progress(1000)
    clock[0] = 10.0
    shown.add(50, 600)
    shown.add(0, 400)
    assert (shown.rows, shown.input_bytes) == (50, 1000)
    assert shown.line().endswith("0:00:00 left")


def test_a_line_now_and_then(monkeypatch, caplog):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO), progress_shown(100, 1, is_main_process=True) as shown:
        for _ in range(10):
            clock[0] += 10.0
            shown.add(1, 10)
    assert len(caplog.records) == 3
    assert shown.rows == 10


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress_shown(100, 1, is_main_process=True) as shown:
        shown.add(5, 60)
        shown.add(5, 60)
    assert "100 % |" in capsys.readouterr().err
