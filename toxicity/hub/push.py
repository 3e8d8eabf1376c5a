"""Publish a run on the Hugging Face Hub: only the files listed in `RUN_FILES`, in one commit.

python -m toxicity.hub runs/sample --repo NAME [--private] [--revision BRANCH]

The token is that of huggingface_hub (HF_TOKEN, or the one `hf auth login` stored). Comments, predictions, checkpoints
and optimizer state are never uploaded; local paths are removed from the JSON files that are.

`HfApi.upload_folder` is no substitute for the commit made here: with hf_xet installed it may commit a folder in several
parts, and whoever loads the repo in between gets the model of one run and the card of another.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.utils import disable_progress_bars, get_session, validate_repo_id

from toxicity.core.console import printable
from toxicity.core.errors import PublishError, RequestError
from toxicity.core.run_folder import RunFolder
from toxicity.core.training_arguments import require_repo_name
from toxicity.hub.redact import public_benchmark, public_config, redacted

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
MODEL_FILES = ("config.json", *WEIGHTS, *TOKENIZER)
# Files have the same place in the repo as in the folder of the run.
IN_REPO = RunFolder("")
CARD, BENCHMARK = str(IN_REPO.card), str(IN_REPO.benchmark)
RUN_FILES = (*MODEL_FILES, CARD, BENCHMARK, str(IN_REPO.report / "*.png"))
# What a finished run has.
REQUIRED = ("config.json", "tokenizer.json", CARD, BENCHMARK)

# The model name in the example of the card.
EXAMPLE_MODEL = re.compile(r'(pipeline\(\s*"text-classification",\s*)"[^"\n]*"')

# Timeout of each request; by default huggingface_hub has none.
SECONDS_OF_SILENCE = 120.0
# How long the end of a run waits for a checkpoint that is still being uploaded.
SECONDS_FOR_A_CHECKPOINT = 600.0

logger = logging.getLogger(__name__)

# One worker, so that commits arrive in the order of their checkpoints.
_uploads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hub")


def check_access(repo: str, private: bool | None = None) -> str:
    """Create the repo if it does not exist, check that the token may write to it, and return its name with the owner.

    Raises:
        PublishError: if a push would fail now.
    """
    with errors_explained(repo):
        repo = open_repo(repo, private)
        HfApi().auth_check(repo, write=True)
    return repo


def push_run(
    run: Path,
    repo: str,
    private: bool | None = None,
    revision: str | None = None,
    checkpoints: Iterable[Future[None]] = (),
) -> str:
    """Publish the folder of a finished run in one commit, and return the address of the model.

    Files that the Hub has already are not sent again.

    Args:
        run: the folder.
        repo: `name` or `owner/name`; created if it does not exist.
        private: whether a new repo is private; None for the owner's default.
        revision: branch to commit to, created if it does not exist; by default `main`.
        checkpoints: results of `push_checkpoint`. Uploads that have not started are cancelled. One that has is waited
            for, at most `SECONDS_FOR_A_CHECKPOINT`, because its commit would replace this model by an older one.

    Raises:
        RequestError: if the folder holds no finished run, or the name is not valid for a repo.
        PublishError: if the upload failed. The message names the command that continues it.
    """
    require_repo_name(repo)
    missing = [name for name in REQUIRED if not (run / name).is_file()]
    if not any(next(run.glob(pattern), None) for pattern in WEIGHTS):
        missing.append(WEIGHTS[0])
    if missing:
        raise RequestError(f"{run} holds no finished run, it lacks {', '.join(missing)}: name the --output_dir of one.")
    try:
        uploading = [job for job in checkpoints if not job.cancel()]
        if wait(uploading, timeout=SECONDS_FOR_A_CHECKPOINT).not_done:
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
    """Publish model and tokenizer of a checkpoint in the background. A failed upload is logged as a warning.

    The folder `checkpoint` may be deleted before the upload is done. `repo`, `private` and `revision` are as for
    `push_run`; `message` is that of the commit.

    Raises:
        OSError: if the files can be neither linked nor copied.
    """
    # Hard links take no space, and keep the files when the Trainer deletes older checkpoints.
    held = Path(tempfile.mkdtemp(prefix=".publishing-", dir=checkpoint.parent))
    for name, file in _files(checkpoint, MODEL_FILES).items():
        try:
            (held / name).hardlink_to(file)
        except OSError:
            shutil.copyfile(file, held / name)

    def push() -> None:
        try:
            _push(held, MODEL_FILES, repo, private, revision, message)
        except PublishError as error:
            logger.warning(f"{checkpoint.name} was not published, and training goes on: {error}")
        finally:
            shutil.rmtree(held, ignore_errors=True)

    job = _uploads.submit(push)
    # A cancelled job never runs its `finally`.
    job.add_done_callback(lambda _: shutil.rmtree(held, ignore_errors=True))
    return job


def _push(
    folder: Path, patterns: tuple[str, ...], repo: str, private: bool | None, revision: str | None, message: str
) -> str:
    with errors_explained(repo):
        repo = open_repo(repo, private)
        if revision is not None:
            HfApi().create_branch(repo, branch=revision, exist_ok=True)
        contents = {name: _public_content(file, name, repo) for name, file in _files(folder, patterns).items()}
        return commit(repo, contents, patterns, message, revision)


def commit(
    repo: str,
    contents: Mapping[str, Path | bytes],
    patterns: Sequence[str],
    message: str,
    revision: str | None = None,
    kind: str = "model",
) -> str:
    """Make one commit of these files, by their paths in the repo, and return the repo's address.

    Files in the repo that match one of `patterns` and are not among them are deleted.
    """
    api = HfApi()
    additions = [CommitOperationAdd(name, content) for name, content in contents.items()]
    # Files of a run published earlier would be loaded or shown with this one, or instead of it.
    stale = [
        CommitOperationDelete(name)
        for name in api.list_repo_files(repo, revision=revision, repo_type=kind)
        if name not in contents and any(_matches(name, pattern) for pattern in patterns)
    ]
    with nullcontext() if sys.stderr.isatty() else disable_progress_bars():
        api.create_commit(repo, [*stale, *additions], commit_message=message, revision=revision, repo_type=kind)
    return f"{api.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{repo}"


def require_token() -> None:
    """Raise `PublishError` if there is no token."""
    if get_token() is None:
        raise PublishError("there is no token for the Hub: run `hf auth login`, or set HF_TOKEN to one that may write.")


def open_repo(repo: str, private: bool | None, kind: str = "model") -> str:
    """Create the repo, a model or a Space, if it does not exist, and return its name with the owner.

    Raises:
        PublishError: if there is no token, or the name is that of another kind of repo.
    """
    require_token()
    sdk = "gradio" if kind == "space" else None
    url = HfApi().create_repo(repo, private=private, exist_ok=True, repo_type=kind, space_sdk=sdk)
    # The name comes from the server.
    validate_repo_id(url.repo_id)
    if url.repo_type != kind:
        raise PublishError(f"{url.repo_id} on the Hub is a {url.repo_type}, not a {kind}: choose another name.")
    return url.repo_id


def _files(folder: Path, patterns: tuple[str, ...]) -> dict[str, Path]:
    """The files that match one of the patterns, by their paths in the folder."""
    found = [file for pattern in patterns for file in sorted(folder.glob(pattern)) if file.is_file()]
    return {file.relative_to(folder).as_posix(): file for file in found}


def _matches(name: str, pattern: str) -> bool:
    """Whether `Path.glob` would find the file, so that `*` does not match `/`."""
    return name.count("/") == pattern.count("/") and PurePosixPath(name).match(pattern)


def _public_content(file: Path, name: str, repo: str) -> Path | bytes:
    """The file, or its redacted bytes where it names the wrong repo or local paths.

    Raises:
        PublishError: if it contains a token.
    """
    if file.suffix not in (".json", ".md", ".txt"):
        return file
    original = text = file.read_text(encoding="utf-8")
    if name == CARD:
        text = EXAMPLE_MODEL.sub(lambda call: f'{call[1]}"{repo}"', text)
    elif name == BENCHMARK:
        text = json.dumps(public_benchmark(json.loads(text)), indent=2) + "\n"
    elif name in ("config.json", "tokenizer_config.json"):
        config = json.loads(text)
        if (public := public_config(config)) != config:
            text = json.dumps(public, indent=2, ensure_ascii=False) + "\n"
    if redacted(text) != text:
        raise PublishError(f"{file} holds a token of the Hub, and nothing was sent: take it out.")
    return file if text == original else text.encode()


@contextmanager
def errors_explained(repo: str, kind: str = "model") -> Iterator[None]:
    """Turn any error of huggingface_hub into a `PublishError` that says in one line what to do about it."""
    timeout, get_session().timeout = get_session().timeout, SECONDS_OF_SILENCE
    try:
        yield
    except PublishError:
        raise
    except Exception as error:  # its type depends on the client, the transport and the network
        advice = {
            401: "the Hub does not take the token: log in again with `hf auth login`, or set HF_TOKEN to one it takes.",
            403: f"the token may not write to {repo}: use one with the role write, and a name of your own.",
            404: f"there is no {kind} {repo} on the Hub that the token can see: is it a dataset, or somebody else's?",
        }.get(_hub_status(error), f"{repo} was not published, or not all of it.")
        raise PublishError(f"{advice} {_message_of(error)}") from error
    finally:
        get_session().timeout = timeout


def _hub_status(error: Exception) -> int | None:
    """HTTP status if the Hub itself refused a request. Storage gets no token, so its refusals say nothing of it."""
    response = getattr(error, "response", None)
    if response is None or response.url.netloc.decode() != urlsplit(HfApi().endpoint).netloc:
        return None
    return response.status_code


def _message_of(error: BaseException) -> str:
    """Message of an error and its cause on one line, at most 300 characters, without tokens and control characters."""
    # If a file did not arrive, the error says which, and its cause says why.
    cause = error.__cause__ if isinstance(error, RuntimeError) else None
    text = " ".join(f"{type(each).__name__}: {each}" for each in (error, cause) if each is not None)
    # Signed URLs grant access to whoever reads them; httpx adds a link to an explanation of the status.
    text = re.sub(r"\?[^\s'\"]+|For more information check: \S+", "", redacted(text))
    return printable(" ".join(text.split()), 300)
