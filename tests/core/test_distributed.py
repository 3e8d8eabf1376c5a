import json

import pytest
import torch
from processes import count_together, exchange_and_leave, run_ranks

from toxicity.core import distributed
from toxicity.core.errors import RequestError


def test_a_process_alone_has_nobody_to_wait_for(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with distributed.process_group():
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
        assert distributed.gather("x") == ["x"]
        assert distributed.run_on_main(lambda: 7) == 7


def test_what_one_is_refused_all_are(monkeypatch):
    def refuse():
        raise RequestError("mine")

    with pytest.raises(RequestError, match="mine"):
        distributed.run_on_all(refuse)
    # As it looks to a process that was well, beside one that was not.
    monkeypatch.setattr(distributed, "gather", lambda value: [value, RequestError("the other's")])
    with pytest.raises(RequestError, match="the other's"):
        distributed.run_on_all(lambda: "fine")


def test_the_first_process_works_and_all_know(monkeypatch):
    calls = []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(distributed, "gather", lambda value: [None, value])
    assert distributed.run_on_main(lambda: calls.append("worked")) is None
    assert calls == []


def test_a_build_for_cuda_on_a_machine_without_a_card_has_no_accelerator(torch_build):
    assert distributed.accelerator() is None
    assert distributed.device() is None


@pytest.fixture
def launched_alone(monkeypatch):
    """The environment that Accelerate's launcher, asked for two processes on a CPU, gives the one that it starts."""
    for variable in distributed.RANK_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setattr("psutil.Process.environ", lambda self: {})


def test_one_process_where_several_were_asked_for_is_refused_with_torchrun_named(launched_alone):
    with pytest.raises(
        RequestError, match="started one, .*ACCELERATE_MIXED_PRECISION=bf16 torchrun --standalone --nproc_per_node 2"
    ):
        distributed.require_all_processes()


@pytest.mark.parametrize("variable", ["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"])
def test_one_of_several_goes_on(launched_alone, monkeypatch, variable):
    monkeypatch.setenv(variable, "0")
    distributed.require_all_processes()


def test_one_process_that_was_asked_for_goes_on(launched_alone, monkeypatch):
    # The port of a cluster's job script, which is there whatever the launcher was asked for.
    monkeypatch.setattr("psutil.Process.environ", lambda self: {"MASTER_PORT": "29500"})
    distributed.require_all_processes()
    monkeypatch.delenv("MASTER_PORT")
    distributed.require_all_processes()
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    distributed.require_all_processes()


def test_each_process_of_a_machine_has_a_device_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    for local_rank, index in (("0", 0), ("1", 1), ("2", 0)):
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        assert distributed.device() == torch.device("cuda", index)


def test_processes_that_end_right_after_an_exchange_do_end():
    # With torch 2.7 four in ten did not.
    for _ in range(3):
        run_ranks(2, exchange_and_leave)


def test_each_number_is_taken_once(tmp_path):
    following = distributed.shared_counter()
    assert [following() for _ in range(3)] == [0, 1, 2], "alone"
    run_ranks(3, count_together, tmp_path)
    taken = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    assert sorted(number for numbers in taken for number in numbers) == list(range(300))
    assert all(numbers == sorted(numbers) for numbers in taken)
