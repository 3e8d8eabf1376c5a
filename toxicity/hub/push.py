"""Publish a run on the Hugging Face Hub: the files that are named here, and no others.

python -m toxicity.hub runs/sample --repo NAME [--private] [--revision BRANCH]

The token is the client's own (HF_TOKEN, or what `hf auth login` keeps). Comments, predictions, checkpoints and
optimizer state stay where they are; local paths are taken out of what is published.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.utils import disable_progress_bars, get_session, validate_repo_id

from toxicity.core.console import printable
from toxicity.core.errors import PublishError, RequestError
from toxicity.core.training_arguments import require_repo_name
from toxicity.hub.redact import public_benchmark, public_config, redacted

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
)
MODEL_FILES = ("config.json", *WEIGHTS, *TOKENIZER)
CARD = "README.md"
BENCHMARK = "report/benchmark.json"
RUN_FILES = (*MODEL_FILES, CARD, BENCHMARK, "report/*.png")
# Without these it is no finished run.
NEEDED = ("config.json", "tokenizer.json", CARD, BENCHMARK)

# The model that the card's example loads.
EXAMPLE_MODEL = re.compile(r'(pipeline\(\s*"text-classification",\s*)"[^"\n]*"')

# The client itself would wait without end for a Hub that takes a call and does not answer it.
SECONDS_OF_SILENCE = 120.0
# How long the end of a run waits for the upload of a checkpoint that is under way.
SECONDS_FOR_A_CHECKPOINT = 600.0

logger = logging.getLogger(__name__)

# One after the other, so that commits arrive in the order of their checkpoints.
_uploads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hub")


def check_access(repo: str, private: bool | None = None) -> str:
    """Make the repo unless it is there, and see that the token may write to it.

    Returns:
        The name of the repo with its owner.

    Raises:
        PublishError: if a push would fail as things are.
    """
    with _explained(repo):
        repo = _open_repo(repo, private)
        HfApi().auth_check(repo, write=True)
    return repo


def push_run(
    run: Path,
    repo: str,
    private: bool | None = None,
    revision: str | None = None,
    checkpoints: Iterable[Future[None]] = (),
) -> str:
    """Publish a finished run in one commit, as far as the Hub has not got its files already.

    Args:
        run: its folder, with the files of `RUN_FILES`.
        repo: `name` or `owner/name`; made if it is not there.
        private: whether it is made so that only its owner sees it; None as the owner's default is.
        revision: branch to commit to, made if it is not there; by default `main`.
        checkpoints: of `push_checkpoint`. Those whose upload has not begun are left out; one under way is waited for,
            `SECONDS_FOR_A_CHECKPOINT` at most, as its commit would put an older model over this one.

    Returns:
        The address of the model.

    Raises:
        RequestError: if the folder holds no finished run, or the name can be no repo's.
        PublishError: if the Hub did not take all of it. The message names the command that goes on.
    """
    require_repo_name(repo)
    missing = [name for name in NEEDED if not (run / name).is_file()]
    if not any(next(run.glob(pattern), None) for pattern in WEIGHTS):
        missing.append(WEIGHTS[0])
    if missing:
        raise RequestError(f"{run} holds no finished run, it lacks {', '.join(missing)}: name the --output_dir of one.")
    try:
        under_way = [job for job in checkpoints if not job.cancel()]
        if wait(under_way, timeout=SECONDS_FOR_A_CHECKPOINT).not_done:
            raise PublishError(
                f"a checkpoint is still on its way to {repo}, {SECONDS_FOR_A_CHECKPOINT:g} s after the end: the Hub is "
                "slow or does not answer."
            )
        return _push(run, RUN_FILES, repo, private, revision, "Publish the model, its card and its benchmark")
    except PublishError as error:
        options = ["--private"] * bool(private) + (["--revision", revision] if revision else [])
        command = shlex.join(["python", "-m", "toxicity.hub", str(run), "--repo", repo, *options])
        raise PublishError(f"{error}\nThe run is whole in {run}. To publish it: {command}") from error


def push_checkpoint(
    checkpoint: Path, repo: str, private: bool | None, revision: str | None, message: str
) -> Future[None]:
    """Publish the model and tokenizer of a checkpoint while training goes on. What the Hub refuses is a warning.

    Args:
        checkpoint: its folder; it may be gone before the upload is done.
        repo: as `push_run` takes it.
        private: the same.
        revision: the same.
        message: of the commit.

    Raises:
        OSError: if the disk has no room to hold the files.
    """
    # Links cost nothing, and hold the files when the Trainer deletes its older checkpoints.
    held = Path(tempfile.mkdtemp(prefix=".publishing-", dir=checkpoint.parent))
    for file in _files(checkpoint, MODEL_FILES):
        try:
            (held / file.name).hardlink_to(file)
        except OSError:
            shutil.copyfile(file, held / file.name)

    def push() -> None:
        try:
            _push(held, MODEL_FILES, repo, private, revision, message)
        except PublishError as error:
            logger.warning(f"{checkpoint.name} was not published, and training goes on: {error}")
        finally:
            shutil.rmtree(held, ignore_errors=True)

    job = _uploads.submit(push)
    # A job that is cancelled never comes to its end.
    job.add_done_callback(lambda _: shutil.rmtree(held, ignore_errors=True))
    return job


def _push(
    folder: Path, patterns: tuple[str, ...], repo: str, private: bool | None, revision: str | None, message: str
) -> str:
    api = HfApi()
    with _explained(repo):
        repo = _open_repo(repo, private)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        additions = [
            CommitOperationAdd(file.relative_to(folder).as_posix(), _published(file, folder, repo))
            for file in _files(folder, patterns)
        ]
        # What an earlier push of another run left is loaded or shown with this one, or instead of it.
        kept = {addition.path_in_repo for addition in additions}
        stale = [
            CommitOperationDelete(name)
            for name in api.list_repo_files(repo, revision=revision)
            if name not in kept and any(_matches(name, pattern) for pattern in patterns)
        ]
        with nullcontext() if sys.stderr.isatty() else disable_progress_bars():
            api.create_commit(repo, [*stale, *additions], commit_message=message, revision=revision)
    return f"{api.endpoint}/{repo}"


def _open_repo(repo: str, private: bool | None) -> str:
    if get_token() is None:
        raise PublishError("there is no token for the Hub: run `hf auth login`, or set HF_TOKEN to one that may write.")
    url = HfApi().create_repo(repo, private=private, exist_ok=True)
    # The name is the server's word from here on.
    validate_repo_id(url.repo_id)
    if url.repo_type != "model":
        raise PublishError(f"{url.repo_id} on the Hub is a {url.repo_type}, not a model: choose another name.")
    return url.repo_id


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [file for pattern in patterns for file in sorted(folder.glob(pattern)) if file.is_file()]


def _matches(name: str, pattern: str) -> bool:
    """Whether `Path.glob` would find a file of that name by the pattern."""
    return name.count("/") == pattern.count("/") and PurePosixPath(name).match(pattern)


def _published(file: Path, folder: Path, repo: str) -> Path | bytes:
    """The file itself, or what is published in its stead.

    Raises:
        PublishError: if it holds a token.
    """
    name = file.relative_to(folder).as_posix()
    if file.suffix not in (".json", ".md", ".txt"):
        return file
    original = text = file.read_text(encoding="utf-8")
    if name == CARD:
        text = EXAMPLE_MODEL.sub(lambda call: f'{call[1]}"{repo}"', text)
    elif name == BENCHMARK:
        text = json.dumps(public_benchmark(json.loads(text)), indent=2) + "\n"
    elif name in ("config.json", "tokenizer_config.json"):
        held = json.loads(text)
        public = public_config(held)
        text = text if public == held else json.dumps(public, indent=2, ensure_ascii=False) + "\n"
    if redacted(text) != text:
        raise PublishError(f"{file} holds a token of the Hub, and nothing was sent: take it out.")
    return file if text == original else text.encode()


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    """Turn whatever the client raises into a `PublishError` that says on one line what to do about it."""
    patience, get_session().timeout = get_session().timeout, SECONDS_OF_SILENCE
    try:
        yield
    except PublishError:
        raise
    except Exception as error:  # what is raised depends on the client, its transport and the network
        advice = {
            401: "the Hub does not take the token: log in again with `hf auth login`, or set HF_TOKEN to one it takes.",
            403: f"the token may not write to {repo}: use one with the role write, and a name of your own.",
            404: f"there is no model {repo} on the Hub that the token can see: is it a dataset, or somebody else's?",
        }.get(_status_of_the_hub(error), f"{repo} was not published, or not all of it.")
        raise PublishError(f"{advice} {_told(error)}") from error
    finally:
        get_session().timeout = patience


def _status_of_the_hub(error: Exception) -> int | None:
    """How the Hub itself refused a call. Storage sees no token, so what it refuses is no matter of the token's."""
    response = getattr(error, "response", None)
    if response is None or response.url.netloc.decode() != urlsplit(HfApi().endpoint).netloc:
        return None
    return response.status_code


def _told(error: BaseException) -> str:
    """What an error and those behind it say, on one line of at most 300 characters that does nothing to a terminal."""
    # Where a file did not arrive, the client says which, and the error behind it says why.
    cause = error.__cause__ if isinstance(error, RuntimeError) else None
    text = " ".join(f"{type(each).__name__}: {each}" for each in (error, cause) if each is not None)
    # Signed URLs let whoever has them write; and the transport points to a page on what the status means.
    text = re.sub(r"\?[^\s'\"]+|For more information check: \S+", "", redacted(text))
    return printable(" ".join(text.split()), 300)
