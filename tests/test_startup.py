"""What `--help` and `--dry_run` do not wait for: imports of what they do not use."""

import json
import subprocess
import sys

import pytest
from builders import ROOT, training_flags
from processes import run

# Runs the script with the flags that follow, then prints which of the modules on its first argument were imported.
ASK = """
import json, runpy, sys
unwanted = json.loads(sys.argv.pop(1))
try:
    runpy.run_path("run_toxicity.py", run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
print(json.dumps([name for name in unwanted if name in sys.modules]))
"""
ONLY_TRAINING = [
    *("transformers.trainer", "transformers.modeling_utils", "transformers.integrations.integration_utils"),
    *("torch._dynamo", "torch.distributed.tensor", "sklearn", "scipy", "matplotlib", "evaluate"),
    *("toxicity.training.trainer", "toxicity.models.padding_free", "toxicity.hub.push", "toxicity.report.write"),
    *("openvino", "nncf", "onnxruntime"),
]


def imported(flags, unwanted, **environment):
    done = run(sys.executable, "-c", ASK, json.dumps(unwanted), *flags, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_help_waits_for_no_data_and_no_training():
    assert imported(["--help"], [*ONLY_TRAINING, "datasets", "pandas", "toxicity.data.sources"]) == []


def test_a_dry_run_waits_for_nothing_of_training(checkpoint, comments_csv, tmp_path, home):
    flags = training_flags(checkpoint, comments_csv, output_dir=tmp_path / "run")
    assert imported([*flags, "--dry_run", "--use_cpu"], ONLY_TRAINING, **home) == []


@pytest.mark.parametrize("module", ["toxicity.core.errors", "toxicity.training.interruption"])
def test_what_handles_ctrl_c_is_there_in_a_moment(module):
    code = f"import sys, {module}; print([name for name in ('torch', 'numpy', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "module", ["toxicity.audit", "toxicity.match", "toxicity.predict", "toxicity.probe", "toxicity.serve"]
)
def test_the_help_of_scoring_waits_for_no_runtime(module):
    runtimes = [
        "torch",
        "transformers",
        "openvino",
        "nncf",
        "onnxruntime",
        "captum",
        "fastapi",
        "uvicorn",
        "gradio",
        "ray",
    ]
    code = ASK.replace('runpy.run_path("run_toxicity.py"', f"runpy.run_module({module!r}")
    done = run(sys.executable, "-c", code, json.dumps(runtimes), "--help")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_service_that_cannot_start_waits_for_no_torch():
    code = "import sys, toxicity.serve.server; print([name for name in ('torch', 'gradio') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_scoring_in_torch_waits_for_no_other_runtime():
    code = (
        "import sys, toxicity.predict.scorer; "
        "import toxicity.predict.job, toxicity.predict.explain.gradients; "
        "print([name for name in ('openvino', 'nncf', 'onnxruntime', 'captum', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
