"""The cluster files for `ray up`: valid by Ray's own rules, and closed."""

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
from botocore.validate import ParamValidator
from ray import autoscaler
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from tests.deploy.manifests import (
    DEPLOY,
    PATIENCE,
    ROOT,
    Document,
    Missing,
    Misspelt,
    Mistake,
    Wrong,
    document,
    with_mistake,
)

FILES = sorted(path.name for path in (DEPLOY / "ray-up").glob("*.yaml"))
CONFIGS = {file: document(f"ray-up/{file}") for file in FILES}

each_file = pytest.mark.parametrize("file", FILES)


def problems(config: Document) -> list[str]:
    """Return what Ray refuses, and keys of the provider and of AWS that do not exist.

    Ray leaves both open: a key that it does not know is handed on, or has no effect.
    """
    try:
        validate_config(prepare_config(config))
    except (Exception, SystemExit) as error:
        return [f"{type(error).__name__}: {error}"]
    schema = json.loads((Path(autoscaler.__file__).parent / "ray-schema.json").read_text())
    provider = schema["properties"]["provider"] | {"additionalProperties": False}
    found = [
        error.message
        for error in jsonschema.Draft7Validator(provider).iter_errors(config["provider"])
    ]
    if config["provider"]["type"] == "aws":
        for name, node in config["available_node_types"].items():
            found += [f"{name}: {line}" for line in aws_problems(node["node_config"])]
    return found


@cache
def run_instances() -> Any:
    """Return EC2's description of the call that starts nodes."""
    model = botocore.session.get_session().get_service_model("ec2")
    return model.operation_model("RunInstances").input_shape


def aws_problems(node: Document) -> list[str]:
    """Hold what is asked of EC2 for a node against EC2's own description of it."""
    report = ParamValidator().validate(node | {"MinCount": 1, "MaxCount": 1}, run_instances())
    return [report.generate_report()] if report.has_errors() else []


@each_file
def test_a_cluster_file_is_valid(file: str) -> None:
    assert problems(CONFIGS[file]) == []


COMMON: list[Mistake] = [
    Misspelt("provider"),
    Missing("provider"),
    Missing("provider/type"),
    Misspelt("max_workers"),
    Wrong("max_workers", "2"),
    Misspelt("docker/image"),
    Misspelt("docker/run_options"),
    Misspelt("file_mounts"),
    Wrong("setup_commands", "true"),
    Misspelt("head_start_ray_commands"),
    Wrong("worker_start_ray_commands/0", 1),
]
MISTAKES: dict[str, list[Mistake]] = {
    "on-premise.yaml": [
        Misspelt("provider/head_ip"),
        Missing("provider/worker_ips"),
        Wrong("provider/worker_ips", "192.0.2.11"),
        Wrong("provider/type", "locale"),
    ],
    "aws.yaml": [
        Misspelt("provider/security_group/GroupName"),
        Misspelt("provider/cache_stopped_nodes"),
        Wrong("head_node_type", "heads"),
        Missing("head_node_type"),
        Missing("available_node_types/learner/resources"),
        Wrong("available_node_types/learner/resources/GPU", "1"),
        Misspelt("available_node_types/env_runner/max_workers"),
        Wrong("available_node_types/env_runner/min_workers", 18),
        Misspelt("available_node_types/learner/docker/worker_image"),
        Misspelt("available_node_types/head/node_config/InstanceType"),
        Wrong("available_node_types/head/node_config/IamInstanceProfile", "stillhouse-node"),
        Misspelt("available_node_types/head/node_config/MetadataOptions/HttpTokens"),
    ],
}


@pytest.mark.parametrize(
    ("file", "mistake"),
    [
        pytest.param(file, mistake, id=f"{file}-{type(mistake).__name__}-{mistake.path}")
        for file in FILES
        for mistake in [*COMMON, *MISTAKES[file]]
    ],
)
def test_a_planted_mistake_is_found(file: str, mistake: Mistake) -> None:
    assert problems(with_mistake(CONFIGS[file], mistake))


def starts(config: Document, role: str) -> tuple[list[str], list[str]]:
    """Return the words before and after `ray start` in the last command of a role."""
    words = shlex.split(config[f"{role}_start_ray_commands"][-1])
    at = words.index("start")
    assert words[at - 1] == "ray"
    return words[: at - 1], words[at + 1 :]


@each_file
@pytest.mark.parametrize("role", ["head", "worker"])
def test_ray_starts_with_the_token_patience_and_options_it_has(file: str, role: str) -> None:
    before, options = starts(CONFIGS[file], role)
    assert before == ["export", "RAY_AUTH_MODE=token", f"{PATIENCE}=300;"]
    known = {option for each in start.params for option in each.opts}
    assert {option.partition("=")[0] for option in options} <= known
    assert ("--head" in options) == (role == "head")


@each_file
def test_the_head_does_no_work_and_keeps_its_dashboard_to_itself(file: str) -> None:
    _, options = starts(CONFIGS[file], "head")
    assert {"--num-cpus=0", "--dashboard-host=127.0.0.1", "--port=6379"} <= set(options)
    assert "--address=$RAY_HEAD_IP:6379" in starts(CONFIGS[file], "worker")[1]


@each_file
def test_the_token_travels_as_a_file_that_only_its_user_reads(file: str) -> None:
    config = CONFIGS[file]
    assert config["file_mounts"] == {"~/.ray": "~/.ray"}
    assert "test -s ~/.ray/auth_token && chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    text = (DEPLOY / "ray-up" / file).read_text(encoding="utf-8")
    assert "RAY_AUTH_TOKEN=" not in text
    assert f"deploy/ray-up/{file}" in (ROOT / "deploy/guide/cluster.md").read_text(encoding="utf-8")


def images(tree: Any) -> set[str]:
    """Find the images that a cluster file names."""
    if not isinstance(tree, dict):
        return set()
    own = {value for key, value in tree.items() if key in ("image", "worker_image", "head_image")}
    return own.union(*(images(value) for value in tree.values()))


def test_the_images_are_those_of_the_other_manifests() -> None:
    job = document("kuberay/job.yaml")["spec"]["rayClusterSpec"]
    expected = {
        container["image"]
        for group in (job["headGroupSpec"], *job["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    }
    assert images(CONFIGS["aws.yaml"]) == expected
    assert images(CONFIGS["on-premise.yaml"]) <= expected
