"""The command on a cluster of two nodes, with all that they share in an object store."""

import json
import os

import pytest
from builders import make_comments, write_texts
from processes import PredictRun, ended_well

pytestmark = pytest.mark.engine


def test_from_and_to_an_object_store_it_leaves_what_one_process_does(ray_nodes, s3, in_bucket, model_dir, tmp_path):
    pytest.importorskip("upath", reason="the extra `cloud` is not installed")
    for number in range(6):
        path = write_texts(tmp_path / f"{number}.csv", [text for text, _ in make_comments(40, seed=number)])
        s3.put_file(str(path), f"bucket/in/{number}.csv")
    flags = ["--model", model_dir, "--runtime", "torch", "--input", "s3://bucket/in", "--output"]
    access = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    ended_well(PredictRun(tmp_path / "alone", *flags, "s3://bucket/alone", **access))

    # The nodes were started without access to the store; the job brings it, as of `ray job submit --runtime-env-json`.
    job = access | {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": access}})}
    on_ray = ["--engine", "ray", "--ray_address", ray_nodes.address, "--ray_num_cpus", 1]
    run = ended_well(PredictRun(tmp_path / "run", *flags, "s3://bucket/scores", *on_ray, **job))
    assert in_bucket("s3://bucket/scores") == in_bucket("s3://bucket/alone")
    assert "never-to-be-shown" not in run.errors
