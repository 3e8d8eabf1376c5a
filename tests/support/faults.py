"""What happens to machines and to data, made to happen at a chosen place; each is called before the script starts."""

import ctypes
import hashlib
import itertools
import os
import shutil
import signal
import sys
import time
from multiprocessing.util import Finalize
from pathlib import Path

import torch

from toxicity.training.monitor import all_finite
from toxicity.training.resumable_trainer import ResumableTrainer
from toxicity.training.trainer import ToxicityTrainer


def _before_step(act):
    """Call `act(trainer, inputs)` before each batch is trained on."""
    original = ToxicityTrainer.training_step

    def training_step(self, model, inputs, *args, **kwargs):
        act(self, inputs)
        return original(self, model, inputs, *args, **kwargs)

    ToxicityTrainer.training_step = training_step


def work_in(folder):
    """From a folder of its own, so that relative paths mean the disk of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)


def remember_missing(folder):
    """What is in a folder that was not there is not seen until somebody tries to make the folder, as NFS has it."""
    exists, mkdir, tried = Path.exists, Path.mkdir, []

    def make(path, *args, **kwargs):
        tried.append(path)
        return mkdir(path, *args, **kwargs)

    Path.exists = lambda path: exists(path) and (folder in tried or folder not in (path, *path.parents))
    Path.mkdir = make


def small_parts(size):
    """Files of other machines are fetched in parts of so many bytes."""
    import toxicity.data.fetching

    toxicity.data.fetching.PART_BYTES = size


def slow_tables(seconds):
    """Each part of a table that the page scores takes that long, as with a large model."""
    import toxicity.serve.page_table_tab

    original = toxicity.serve.page_table_tab._patiently
    toxicity.serve.page_table_tab._patiently = lambda score, texts: time.sleep(seconds) or original(score, texts)


def kill_at_step(step):
    """SIGKILL from within the step, as if the machine had vanished."""
    _before_step(lambda trainer, _: trainer.state.global_step == step and os.kill(os.getpid(), signal.SIGKILL))


def slow_steps(seconds):
    _before_step(lambda *_: time.sleep(seconds))


def raise_at_step(step, message):
    def act(trainer, _):
        if trainer.state.global_step == step:
            raise ValueError(message)

    _before_step(act)


def out_of_memory_at_step(step):
    """From within the forward pass, as a card does."""
    import toxicity.training.trainer

    original, seen = toxicity.training.trainer.training_loss, {}
    _before_step(lambda trainer, _: seen.update(step=trainer.state.global_step))

    def loss(*args, **kwargs):
        if seen.get("step") == step:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(*args, **kwargs)

    toxicity.training.trainer.training_loss = loss


def kill_while_saving(nth):
    """SIGKILL in the midst of writing the nth optimiser state."""
    original, saves = torch.save, []

    def save(value, path, *args, **kwargs):
        saves.append(path)
        original(value, path, *args, **kwargs)
        if sum(str(saved).endswith("optimizer.pt") for saved in saves) == nth:
            os.truncate(path, Path(path).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save


def no_number_at_step(step, steps=1):
    """The loss is NaN in a step, or in several."""
    import toxicity.training.trainer

    original, seen = toxicity.training.trainer.training_loss, {}
    _before_step(lambda trainer, _: seen.update(step=trainer.state.global_step))

    def loss(*args, **kwargs):
        value = original(*args, **kwargs)
        return value * float("nan") if step <= seen.get("step", -1) < step + steps and value.requires_grad else value

    toxicity.training.trainer.training_loss = loss


def quota(after_saves, megabytes):
    """After some checkpoints no file can become larger than that, as where a quota is used up."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    original, saves = ResumableTrainer._save_checkpoint, []

    def save(self, *args, **kwargs):
        if len(saves) == after_saves:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(megabytes * 2**20),) * 2)
        saves.append(original(self, *args, **kwargs))

    ResumableTrainer._save_checkpoint = save


def no_estimate():
    """Nobody foresees how much a checkpoint takes."""
    ResumableTrainer._bytes_of_training = lambda self: 0


def small_disk(folder, kibibytes):
    """A file system of that size at the folder, of this process alone; what is in it at the end is copied beside it."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, clone_newuser, ms_rec, ms_private = 0x20000, 0x10000000, 0x4000, 1 << 18
    folder.mkdir(parents=True)
    for step in (
        lambda: libc.unshare(clone_newns | (clone_newuser if os.geteuid() else 0)),
        lambda: libc.mount(b"none", b"/", None, ms_rec | ms_private, None),
        lambda: libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={kibibytes}k,mode=777".encode()),
    ):
        if step():
            raise OSError(ctypes.get_errno(), "this kernel lets nobody make a file system of their own")
    copy = folder.with_name(f"{folder.name}-copy")
    Finalize(None, shutil.copytree, (folder, copy), exitpriority=1)


def note_weights(path):
    """Write down a digest of the weights, and whether they are finite, before every batch that is trained on."""

    def act(trainer, _):
        weights = [weight.detach() for weight in trainer.model.parameters()]
        digest = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in weights)).hexdigest()
        with Path(f"{path}.{trainer.args.process_index}").open("a") as file:
            print(digest, all_finite(trainer.model), file=file)

    _before_step(act)


def slow_scoring(seconds):
    original = ToxicityTrainer._on_scored_batch

    def on_scored_batch(self, *args):
        time.sleep(seconds)
        original(self, *args)

    ToxicityTrainer._on_scored_batch = on_scored_batch


def note_rows(path):
    """Write down the token ids of every row that is trained on."""

    def act(trainer, inputs):
        with Path(f"{path}.{trainer.args.process_index}").open("a") as file:
            parts = inputs["parts"] if inputs["rows"] else []
            for part in itertools.chain.from_iterable(part.get("shares", [part]) for part in parts):
                ids = part["input_ids"][0].tolist()
                starts = [*part["packing"].first_tokens.tolist(), len(ids)]
                for start, stop in itertools.pairwise(starts):
                    print(*ids[start:stop], file=file)

    _before_step(act)


def tell_whether_deterministic():
    told = []

    def act(*_):
        if not told:
            chosen = torch.are_deterministic_algorithms_enabled()
            told.append(
                f"deterministic algorithms: {chosen}, workspace of cuBLAS: {os.environ.get('CUBLAS_WORKSPACE_CONFIG')}"
            )
            print(told[0], file=sys.stderr, flush=True)

    _before_step(act)


def use_hub(endpoint):
    """Have the client, which was imported long ago, talk to a Hub on loopback, as the fixture `hub` does."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True
    constants.ENDPOINT = endpoint
    constants.HUGGINGFACE_CO_URL_TEMPLATE = endpoint + "/{repo_id}/resolve/{revision}/{filename}"


def large_actors(cores: int) -> None:
    """Have each actor of Ray take so many cores, though no node has as many."""
    from toxicity.predict import ray_actors
    from toxicity.predict.ray_cluster import Size

    ray_actors.size_of_actors = lambda asked, on_cpu: Size(cores, 0)
