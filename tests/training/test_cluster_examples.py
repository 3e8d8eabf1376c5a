"""The jobs in examples/ that train on several machines, as far as they can be checked without their clusters."""

import argparse
import re
import shutil
import subprocess
import sysconfig

import kubernetes_validate
import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from builders import ROOT
from machines import JOBS, documents

EXAMPLES = ROOT / "examples"
SLURM = (EXAMPLES / "train.slurm").read_text(encoding="utf-8")
SKYPILOT = documents("train-skypilot.yaml")[0]
SERVICE, KUBERNETES = documents("train-kubernetes.yaml")
CONTAINER = KUBERNETES["spec"]["template"]["spec"]["containers"][0]

# Writes down what it is asked to do, a file for each machine, and ends as the test says.
PYTHON = """\
#!/bin/bash
printf '%s\\0' "$@" > "$LOGS/$RANDOM$$.arguments"
exit "$(cat "$LOGS/code")"
"""


def ended(job, code):
    """The exit codes of a job whose processes all end with this code, and what they were asked, by machine."""
    job.stand_in("python", PYTHON)
    (job.folder / "code").write_text(str(code))
    job.start()
    codes = job.ended(60)
    asked = [path.read_text().split("\0")[:-1] for path in job.folder.glob("*.arguments")]
    launches = [launch_command_parser().parse_args(words[2:]) for words in asked]
    assert [words[:2] for words in asked] == [["-m", "toxicity.launch"]] * 2
    return codes, sorted(launches, key=lambda launch: launch.machine_rank)


@pytest.mark.parametrize("name", JOBS)
def test_each_machine_starts_its_part_of_one_run(tmp_path, name):
    codes, launches = ended(JOBS[name](tmp_path, gpus=4), 0)
    assert set(codes) == {0}
    first, second = map(vars, launches)
    assert (first.pop("machine_rank"), second.pop("machine_rank")) == (0, 1)
    assert first == second
    launch = argparse.Namespace(**first)
    assert (launch.num_machines, launch.num_processes, launch.main_process_ip) == (2, 8, "127.0.0.1")
    assert (ROOT / launch.config_file).is_file()
    assert launch.training_script == "run_toxicity.py"
    recipe, *flags = launch.training_script_args
    assert recipe == "recipes/reference.yaml"
    assert "--resume_from_checkpoint auto" in " ".join(flags).replace("=", " ")


# As our launcher does it: SIGTERM, whoever sends it, is an interruption; the second machine fails, the first misses it.
MISSES_THE_OTHER = """\
#!/bin/bash
trap 'exit 75' TERM
[ "$SLURM_NODEID" = 1 ] && exit 2
for _ in {1..5}; do sleep 0.1; done
exit 1
"""


def test_slurm_does_not_take_a_machine_that_fails_for_an_interruption(tmp_path):
    job = JOBS["Slurm"](tmp_path)
    job.stand_in("python", MISSES_THE_OTHER)
    job.start()
    assert job.ended(60) == [2]
    assert not (tmp_path / "scontrol.log").exists()


@pytest.mark.parametrize(("code", "queued_again"), [(0, False), (1, False), (2, False), (75, True), (143, True)])
def test_slurm_queues_a_job_again_that_was_interrupted_and_no_other(tmp_path, code, queued_again):
    codes, _ = ended(JOBS["Slurm"](tmp_path), code)
    assert codes == [code]
    said = tmp_path / "scontrol.log"
    assert (said.exists() and said.read_text().startswith("requeue ")) == queued_again


def test_slurm_takes_flags_of_the_run_and_gives_it_its_cores(tmp_path):
    job = JOBS["Slurm"](tmp_path)
    start = job.start
    job.start = lambda: start("--train_file", "with space.csv")
    _, launches = ended(job, 0)
    assert launches[0].training_script_args[-2:] == ["--train_file", "with space.csv"]
    # Since Slurm 22.05 srun gives a task one core, whatever sbatch was asked for.
    assert "--cpus-per-task=16" in (tmp_path / "srun.options").read_text().split()


def sbatch_options():
    """The options of the script as sbatch reads them: lines before the first command."""
    lines = SLURM.split("\n\n")[0].splitlines()
    return dict(re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line).groups() for line in lines if "#SBATCH" in line)


def test_slurm_finds_all_options_and_warns_the_run_in_time():
    options = sbatch_options()
    assert SLURM.count("#SBATCH") == len(options) == 10
    # One launcher a machine; the signal goes to the launchers, and not to the script, which would end by it.
    assert options["ntasks-per-node"] == "1"
    signal, seconds = re.fullmatch(r"(TERM)@(\d+)", options["signal"]).groups()
    assert signal == "TERM"
    patience = int(re.search(r"TORCH_ELASTIC_SHUTDOWN_TIMEOUT=(\d+)", SLURM)[1])
    assert patience < int(seconds)
    assert {"requeue", "open-mode"} <= options.keys()


SCRIPTS = {"Slurm": SLURM, "setup": SKYPILOT["setup"], "run": SKYPILOT["run"], "Kubernetes": CONTAINER["command"][2]}


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_has_nothing_to_say(name):
    shellcheck = shutil.which("shellcheck", path=sysconfig.get_path("scripts")) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install -r requirements-dev.txt")
    done = subprocess.run(
        [shellcheck, "--shell", "bash", "-"], input=SCRIPTS[name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("document", [SERVICE, KUBERNETES], ids=lambda document: document["kind"])
@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_field(document, version):
    kubernetes_validate.validate(document, version, strict=True)


def test_the_pods_of_kubernetes_fit_together():
    job, pod = KUBERNETES["spec"], KUBERNETES["spec"]["template"]["spec"]
    environment = {entry["name"]: entry["value"] for entry in CONTAINER["env"]}
    name, service = KUBERNETES["metadata"]["name"], SERVICE["metadata"]["name"]
    assert environment["MAIN"] == f"{name}-0.{service}"
    assert pod["subdomain"] == service
    assert SERVICE["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert job["completions"] == job["parallelism"] == int(environment["MACHINES"])
    assert CONTAINER["resources"]["limits"]["nvidia.com/gpu"] == int(environment["GPUS"])
    assert int(environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < pod["terminationGracePeriodSeconds"]
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    actions = {
        rule["onExitCodes"]["values"][0]: rule["action"]
        for rule in job["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert actions == {75: "Ignore", 2: "FailJob"}


def test_skypilot_knows_every_field():
    # Of its schema; SkyPilot itself, 460 MB, is not among the requirements.
    keys = {"name", "num_nodes", "workdir", "envs", "resources", "file_mounts", "setup", "run"}
    assert SKYPILOT.keys() == keys
    assert SKYPILOT["resources"].keys() <= {"accelerators", "use_spot", "job_recovery"}
    assert SKYPILOT["resources"]["job_recovery"].keys() == {"recover_on_exit_codes", "max_restarts_on_errors"}
    assert SKYPILOT["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    assert SKYPILOT["file_mounts"]["/shared"].keys() == {"source", "mode"}
    for word in re.findall(r"-c (constraints/\S+)|-r (\S+)", SKYPILOT["setup"]):
        assert (ROOT / "".join(word)).is_file()


def test_skypilot_itself_takes_the_task():
    sky = pytest.importorskip("sky", reason="SkyPilot is not installed; it is no requirement")
    assert sky.Task.from_yaml_config(SKYPILOT).num_nodes == 2


def test_the_image_has_what_the_job_starts():
    text = (EXAMPLES / "Dockerfile.training").read_text(encoding="utf-8")
    assert text.startswith("# Nobody has built this image")
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for word in line.split()]
    assert all((ROOT / name).exists() for name in copied)
    assert {"run_toxicity.py", "recipes", "accelerate_configs", "toxicity", "requirements.txt"} <= set(copied)
    user = str(KUBERNETES["spec"]["template"]["spec"]["securityContext"]["runAsUser"])
    assert f"--uid {user}" in text
    assert f"USER {user}:{user}" in text
    config = yaml.safe_load((ROOT / "accelerate_configs" / "multi_node.yaml").read_text(encoding="utf-8"))
    assert config["num_machines"] == KUBERNETES["spec"]["completions"]
