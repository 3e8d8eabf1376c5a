import pytest
from builders import training_flags, write_comments
from processes import Run, ended_well


@pytest.fixture(scope="module")
def flags(checkpoint, tmp_path_factory):
    path = write_comments(tmp_path_factory.mktemp("data") / "comments.csv")
    options = {"config_overrides": "hidden_dropout_prob=0.1", "learning_rate": 1e-3}
    return training_flags(checkpoint, path, num_train_epochs=2, save_strategy="no", **options)


def weights(folder, *flags, **environment):
    ended_well(Run(folder, *flags, "--output_dir", folder / "run", **environment))
    return (folder / "run" / "model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_weights_whatever_the_tokenizer_does(flags, tmp_path):
    first = weights(tmp_path / "first", *flags)
    # Each has a token cache of its own, so that it tokenises.
    for workers in (1, 5):
        again = weights(tmp_path / str(workers), *flags, "--preprocessing_num_workers", workers)
        assert again == first, f"{workers} threads"
    assert weights(tmp_path / "other", *flags, "--seed", 7) != first


def test_full_determinism_passes_through(flags, tmp_path):
    run = Run(
        tmp_path, *flags, "--output_dir", tmp_path / "run", "--full_determinism", fault=("tell_whether_deterministic",)
    )
    ended_well(run)
    assert "deterministic algorithms: True, workspace of cuBLAS: :16:8" in run.errors
    assert weights(tmp_path / "again", *flags, "--full_determinism") == (
        (tmp_path / "run" / "model.safetensors").read_bytes()
    )
