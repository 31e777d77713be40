"""What belongs together: the cluster's manifest, the job's, the guide, the image, the project."""

import copy
import shlex
import tomllib
from pathlib import Path

import ray
import typer
from packaging.requirements import Requirement
from typer.core import TyperGroup

from cluster.cli import app
from cluster.prepare import check_resources
from cluster.recipe.config import load_recipe
from tests.deploy.dockerfile import WORKDIR
from tests.deploy.kuberay_manifests import (
    CLUSTER,
    CLUSTER_SPECS,
    EVERYTHING,
    FILES,
    JOB,
    RESOURCES,
    ray_pods,
)
from tests.deploy.manifests import DEPLOY, ROOT, pods


def test_the_job_runs_on_the_cluster_of_the_other_manifest() -> None:
    """But for the dashboard: on loopback where nobody else needs it."""
    cluster = copy.deepcopy(CLUSTER_SPECS["RayCluster"])
    head = cluster["headGroupSpec"]["rayStartParams"]
    assert head["dashboard-host"] == "127.0.0.1"
    head["dashboard-host"] = "0.0.0.0"
    assert CLUSTER_SPECS["RayJob"] == cluster


def test_the_secrets_are_named_in_the_guide_and_kept_out_of_the_manifests() -> None:
    guide = (ROOT / "deploy/guide/cluster.md").read_text(encoding="utf-8")
    names = {CLUSTER["spec"]["authOptions"]["secretName"]}
    names |= {
        source["secretRef"]["name"]
        for _, pod in ray_pods()
        for container in pod.containers
        for source in container["envFrom"]
    }
    names.add(
        CLUSTER["spec"]["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"][
            "name"
        ]
    )
    assert names == {"stillhouse-token", "stillhouse-redis", "stillhouse-storage"}
    for name in names:
        assert f"secret generic {name} " in guide
    assert all(found["kind"] != "Secret" for found in EVERYTHING)


def test_the_files_that_the_guide_applies_are_all_there_are() -> None:
    guide = (ROOT / "deploy/guide/cluster.md").read_text(encoding="utf-8")
    for file in FILES:
        assert f"deploy/kuberay/{file}" in guide


def test_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [ours] = [r for r in map(Requirement, project["dependencies"]) if r.name == "ray"]
    assert {"default", "rllib"} <= ours.extras  # the job API and the autoscaler need "default"
    for spec in CLUSTER_SPECS.values():
        assert spec["rayVersion"] in ours.specifier
        assert spec["rayVersion"] == ray.__version__
    images = {c["image"] for r in RESOURCES.values() for pod in pods(r) for c in pod.containers}
    assert images == {f"stillhouse:{project['version']}-{kind}" for kind in ("cpu", "cuda")}


def entrypoint() -> list[str]:
    """Return the words of the job's command."""
    return shlex.split(JOB["spec"]["entrypoint"])


def test_the_job_runs_a_recipe_of_the_image_that_fits_its_cluster() -> None:
    command, verb, path, *options = entrypoint()
    assert (command, verb) == ("stillhouse", "run")
    recipe = ROOT / Path(path).relative_to(WORKDIR)
    overrides = [options[i + 1] for i, option in enumerate(options) if option == "--set"]
    config = load_recipe(recipe, overrides)
    assert config.teacher is not None
    assert Path(config.teacher.path).is_relative_to(DEPLOY)
    assert config.learner.num_gpus == 1
    groups = CLUSTER_SPECS["RayJob"]["workerGroupSpecs"]
    room: dict[str, float] = {"cpu": -JOB["spec"]["entrypointNumCpus"], "nvidia.com/gpu": 0}
    for group in groups:
        [container] = group["template"]["spec"]["containers"]
        for name in room:
            amount = float(container["resources"]["limits"].get(name, 0))
            room[name] += amount * group["maxReplicas"]
    check_resources(config, num_cpus=room["cpu"], num_gpus=room["nvidia.com/gpu"])


def test_the_command_line_takes_the_jobs_command() -> None:
    _, verb, *words = entrypoint()
    commands = typer.main.get_command(app)
    assert isinstance(commands, TyperGroup)
    context = commands.commands[verb].make_context(verb, words)
    assert context.params["go_on"] is True


def test_a_retry_goes_on_where_the_job_was() -> None:
    """It runs the same command on a new cluster, so the run directory must outlive the old one."""
    options = entrypoint()
    assert JOB["spec"]["backoffLimit"] > 0
    assert "--resume" in options
    run_dir = options[options.index("--run-dir") + 1]
    assert run_dir.partition("://")[0] in ("s3", "gs")
    assert options[options.index("--address") + 1] == "auto"
