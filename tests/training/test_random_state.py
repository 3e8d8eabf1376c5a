import pytest
import torch

from toxicity.training.random_state import restore_random_state, save_random_state


@pytest.fixture
def mps(monkeypatch):
    """A stand-in for the generator of an Apple GPU, as `torch.mps` gives its state: one for all, on the CPU."""
    generator = torch.Generator().manual_seed(5)
    monkeypatch.setattr(torch.mps, "get_rng_state", generator.get_state)
    monkeypatch.setattr(torch.mps, "set_rng_state", generator.set_state)
    return generator


def test_an_apple_gpu_draws_on_where_it_was(mps, tmp_path):
    device = torch.device("mps")
    save_random_state(tmp_path, device)
    assert [path.name for path in tmp_path.iterdir()] == ["rng_state_mps_0.pth"]
    expected = torch.rand(3, generator=mps)
    restore_random_state(tmp_path, device)
    assert torch.equal(torch.rand(3, generator=mps), expected)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_the_trainer_keeps_is_not_kept_twice(tmp_path, device):
    save_random_state(tmp_path, torch.device(device))
    assert list(tmp_path.iterdir()) == []
    restore_random_state(tmp_path, torch.device(device))


def test_a_checkpoint_from_before_can_be_gone_on_from(mps, tmp_path):
    restore_random_state(tmp_path, torch.device("mps"))


def test_a_run_on_an_apple_gpu_goes_on_with_its_random_state(mps, make_trainer, monkeypatch):
    """The trainer computes on the CPU, and is told that its random numbers come from an Apple GPU."""
    from toxicity.training import resumable_trainer

    for name in ("save_random_state", "restore_random_state"):
        function = globals()[name]
        monkeypatch.setattr(
            resumable_trainer, name, lambda folder, device, function=function: function(folder, torch.device("mps"))
        )
    trainer = make_trainer(save_strategy="steps", save_steps=4, max_steps=6)
    draw = trainer.training_step
    drawn = []

    def training_step(*args, **kwargs):
        drawn.append(torch.rand(1, generator=mps).item())
        return draw(*args, **kwargs)

    monkeypatch.setattr(trainer, "training_step", training_step)
    trainer.train()
    folder = trainer.checkpoints.run_folder.checkpoint(4)
    assert (folder / "rng_state_mps_0.pth").is_file()
    mps.manual_seed(99)
    resumed = make_trainer(save_strategy="steps", save_steps=4, max_steps=6)
    draw, before = resumed.training_step, drawn.copy()
    drawn.clear()
    monkeypatch.setattr(resumed, "training_step", training_step)
    resumed.train(resume_from_checkpoint=str(folder))
    assert drawn == before[4:]
