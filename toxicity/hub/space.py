"""Publish the page to try a model as a Space beside it: the page's code and what starts it, in one commit.

python -m toxicity.hub runs/sample --space NAME [--repo OWNER/MODEL]

What is uploaded is made here or is this package's own code, by an allow-list of its rooms; of the folder of the run
only the name is used. The Space loads the model from the Hub, where it has to be already.
"""

from __future__ import annotations

import importlib.metadata
import logging
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import HfApi, SpaceCardData

from toxicity.core.errors import PublishError
from toxicity.core.run_folder import RunFolder
from toxicity.core.training_arguments import require_repo_name
from toxicity.hub.push import commit, errors_explained, open_repo, require_token
from toxicity.hub.redact import redacted

# The rooms that the page needs, and no others; each with those inside it.
ROOMS = ("core", "data", "hardware", "evaluation", "models", "predict", "serve")
CODE = ("toxicity/__init__.py", *(f"toxicity/{room}/{inside}*.py" for room in ROOMS for inside in ("", "*/")))
SPACE_FILES = ("app.py", "README.md", "requirements.txt", *CODE)
# Of the package's requirements, what scores and shows; the others are for training, reports and the service.
PACKAGES = (
    *("torch", "transformers", "accelerate", "datasets", "tokenizers", "huggingface_hub", "scikit-learn", "numpy"),
    *("scipy", "pyarrow", "charset-normalizer", "regex", "filelock", "psutil", "pyyaml", "xxhash"),
    *("fastapi", "gradio"),
)
PYTHON = "3.11"

logger = logging.getLogger(__name__)

APP = '''"""The page to try {model}: type a comment, and see its score and the words that drive it."""

from huggingface_hub import ModelCard

from toxicity.hardware.process import prepare_process
from toxicity.predict.explain.occlusion import occlusion
from toxicity.predict.scorer import Scorer
from toxicity.serve.page import build_page, launch_options
from toxicity.serve.service import Service
from toxicity.serve.settings import Settings

MODEL = "{model}"

prepare_process(scoring=True)
scorer = Scorer(MODEL)


def score(texts):
    return scorer.probabilities(scorer.tokenize(texts))


def explain(text):
    return occlusion(text, lambda texts: score(texts)[:, 0])


described = Service(Settings(MODEL), scorer, batcher=None).described()
page = build_page(described, score, explain, ModelCard.load(MODEL).text)

if __name__ == "__main__":
    page.launch(**launch_options())
'''

README = """---
{metadata}
---

# {title}

Type a comment and see how toxic [{model}](https://huggingface.co/{model}) calls it, from which score on, and which
words drive it; or upload a table of comments and download their scores.
"""


def push_space(run: Path, space: str, repo: str | None = None, private: bool | None = None) -> str:
    """Publish the page of a run's model as a Space, and return its address.

    Args:
        run: the folder of the run, for the name of the model where `repo` has none.
        space: `name` or `owner/name` of the Space; created if it does not exist.
        repo: the model on the Hub, `name` or `owner/name`; by default the folder's name, of the Space's owner.
        private: whether a new Space is private; None for the owner's default.

    Raises:
        RequestError: if a name is not valid for a repo.
        PublishError: if the model is not on the Hub, or the upload failed. The message names the command to repeat.
    """
    model = repo or RunFolder(run).default_repo
    for name in (space, model):
        require_repo_name(name)
    try:
        with errors_explained(space, "Space"):
            require_token()
            api = HfApi()
            owner = space.split("/")[0] if "/" in space else api.whoami()["name"]
            model = model if "/" in model else f"{owner}/{model}"
            # Before the Space is created, which would be empty.
            if not api.repo_exists(model):
                publish = shlex.join(["python", "-m", "toxicity.hub", str(run), "--repo", model])
                raise PublishError(f"there is no model {model} on the Hub for the Space to load. Publish it: {publish}")
            if api.model_info(model).private:
                logger.warning(f"{model} is private: give the Space a secret HF_TOKEN that may read it.")
            space = open_repo(space, private, "space")
            return commit(space, _contents(model), SPACE_FILES, "Publish the page to try the model", kind="space")
    except PublishError as error:
        options = [*(["--repo", repo] if repo else []), *["--private"] * bool(private)]
        command = shlex.join(["python", "-m", "toxicity.hub", str(run), "--space", space, *options])
        raise PublishError(f"{error}\nTo publish the page then: {command}") from error


def _contents(model: str) -> dict[str, bytes]:
    """What the Space holds, by path."""
    requirements = _requirements()
    sdk_version = next(line.partition("==")[2] for line in requirements if line.startswith("gradio=="))
    title = model.split("/")[1]
    metadata = SpaceCardData(
        title=title,
        sdk="gradio",
        sdk_version=sdk_version,
        python_version=PYTHON,
        app_file="app.py",
        license="apache-2.0",
        models=[model],
    )
    package = Path(find_spec("toxicity").origin).parent
    files = [file for pattern in CODE for file in sorted(package.parent.glob(pattern))]
    contents = {file.relative_to(package.parent).as_posix(): file.read_text(encoding="utf-8") for file in files}
    contents["app.py"] = APP.format(model=model)
    contents["README.md"] = README.format(metadata=metadata.to_yaml(), title=title, model=model)
    contents["requirements.txt"] = "\n".join([*requirements, ""])
    for name, text in contents.items():
        if redacted(text) != text:
            raise PublishError(f"{name} holds a token of the Hub, and nothing was sent: take it out.")
    return {name: text.encode() for name, text in contents.items()}


def _requirements() -> list[str]:
    """The lines of `PACKAGES`, pinned as this package's requirements pin them, in a checkout or as it is installed."""
    root = Path(__file__).parents[2]
    files = [root / "requirements.txt", root / "requirements-serve.txt"]
    if all(file.is_file() for file in files):
        lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    else:
        lines = [line.partition(";")[0] for line in importlib.metadata.requires("toxicity-trainer") or []]
    found = {re.split("[=<>!~ ]", line.strip())[0].lower(): line.strip() for line in lines}
    return [found[name] for name in PACKAGES]
