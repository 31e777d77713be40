"""The manifests for KubeRay: valid, closed, and agreeing with each other and with the checkout."""

import copy
import shlex
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ray
import typer
from packaging.requirements import Requirement
from ray.scripts.scripts import start
from typer.core import TyperGroup

from cluster.cli import app
from cluster.config import load_recipe
from cluster.prepare import check_resources
from tests.deploy.crd_schema import schema_problems, strict_schema
from tests.deploy.dockerfile import WORKDIR
from tests.deploy.kuberay_model import model_problems
from tests.deploy.manifests import (
    DEPLOY,
    ROOT,
    Document,
    Missing,
    Misspelt,
    Mistake,
    Pod,
    Wrong,
    document,
    documents,
    kubernetes_problems,
    pods,
    with_mistake,
)

CLUSTER = document("kuberay/cluster.yaml")
JOB = document("kuberay/job.yaml")
RESOURCES = {"RayCluster": CLUSTER, "RayJob": JOB}
FILES = sorted(path.name for path in (DEPLOY / "kuberay").glob("*.yaml"))
EVERYTHING = [found for file in FILES for found in documents(f"kuberay/{file}")]
PODS = [
    pytest.param(pod, id=f"{found['metadata']['name']}-{pod.where}")
    for found in EVERYTHING
    for pod in pods(found)
]
STORED = {"RayCluster": "ray.io_rayclusters.yaml", "RayJob": "ray.io_rayjobs.yaml"}

each_resource = pytest.mark.parametrize("kind", RESOURCES)


@cache
def schema(kind: str) -> dict[str, Any]:
    path = ROOT.parent / "shared" / "kuberay-crds" / STORED[kind]
    if not path.exists():
        pytest.skip("no ../shared/kuberay-crds beside the checkout")
    return strict_schema(path)


def problems(found: Document) -> list[str]:
    """What is found wrong without KubeRay's own definitions, which may not be at hand."""
    return (model_problems(found) if found["kind"] in RESOURCES else []) or kubernetes_problems(
        found
    )


@pytest.mark.parametrize(
    "found", EVERYTHING, ids=lambda found: f"{found['kind']}-{found['metadata']['name']}"
)
def test_a_manifest_is_valid(found: Document) -> None:
    assert problems(found) == []


@each_resource
def test_a_resource_is_what_kuberay_defines(kind: str) -> None:
    assert schema_problems(RESOURCES[kind], schema(kind)) == []


SPEC = {"RayCluster": "spec", "RayJob": "spec/rayClusterSpec"}
IN_A_CLUSTER: list[Mistake] = [
    Misspelt("rayVersion"),
    Misspelt("authOptions"),
    Misspelt("authOptions/secretName"),
    Wrong("authOptions/mode", "tokens"),
    Misspelt("enableInTreeAutoscaling"),
    Wrong("enableInTreeAutoscaling", "true"),
    Wrong("autoscalerOptions/version", "v3"),
    Wrong("autoscalerOptions/idleTimeoutSeconds", "300"),
    Misspelt("autoscalerOptions/securityContext/allowPrivilegeEscalation"),
    Misspelt("gcsFaultToleranceOptions/redisPassword/valueFrom"),
    Missing("headGroupSpec"),
    Missing("headGroupSpec/template"),
    Wrong("headGroupSpec/rayStartParams/num-cpus", 0),
    Misspelt("workerGroupSpecs/0/minReplicas"),
    Wrong("workerGroupSpecs/0/maxReplicas", "16"),
    Missing("workerGroupSpecs/1/groupName"),
]
IN_A_POD: list[Mistake] = [
    Missing("headGroupSpec/template/spec/containers"),
    Missing("headGroupSpec/template/spec/containers/0/name"),
    Misspelt("headGroupSpec/template/spec/securityContext/runAsNonRoot"),
    Wrong("headGroupSpec/template/spec/securityContext/runAsNonRoot", "yes"),
    Wrong("headGroupSpec/template/spec/containers/0/ports/0/containerPort", "6379"),
    Misspelt("workerGroupSpecs/1/template/spec/tolerations"),
    Misspelt("workerGroupSpecs/1/template/spec/containers/0/resources/limits"),
    Wrong("workerGroupSpecs/0/template/spec/containers/0/image", ["stillhouse"]),
]
IN_A_JOB: list[Mistake] = [
    Misspelt("spec/entrypoint"),
    Misspelt("spec/backoffLimit"),
    Wrong("spec/backoffLimit", "3"),
    Wrong("spec/submissionMode", 1),
    Wrong("spec/entrypointNumCpus", "1"),
    Misspelt("spec/submitterConfig/backoffLimit"),
    Wrong("spec/shutdownAfterJobFinishes", "true"),
    Misspelt("spec/submitterPodTemplate/spec/restartPolicy"),
    Misspelt("spec/rayClusterSpec"),
]


def _plants() -> list[Any]:
    plants = [
        (kind, mistake._replace(path=f"{SPEC[kind]}/{mistake.path}"))
        for kind in RESOURCES
        for mistake in [*IN_A_CLUSTER, *(IN_A_POD if kind == "RayCluster" else [])]
    ]
    plants += [("RayJob", mistake) for mistake in IN_A_JOB]
    return [pytest.param(k, m, id=f"{k}-{type(m).__name__}-{m.path}") for k, m in plants]


each_mistake = pytest.mark.parametrize(("kind", "mistake"), _plants())


@each_mistake
def test_a_planted_mistake_is_found_without_kuberays_definitions(
    kind: str, mistake: Mistake
) -> None:
    assert problems(with_mistake(RESOURCES[kind], mistake))


@each_mistake
def test_a_planted_mistake_is_found_by_kuberays_definitions(kind: str, mistake: Mistake) -> None:
    assert schema_problems(with_mistake(RESOURCES[kind], mistake), schema(kind))


@pytest.mark.parametrize(
    "mistake",
    [
        Wrong("spec/headGroupSpec/rayStartParams/num-cpus", "4"),
        Wrong("spec/authOptions/mode", "disabled"),
        Misspelt("spec/headGroupSpec/rayStartParams/dashboard-host"),
        Wrong("spec/workerGroupSpecs/0/minReplicas", 17),
        Wrong("spec/headGroupSpec/serviceType", "LoadBalancer"),
        Missing("spec/gcsFaultToleranceOptions"),
    ],
    ids=lambda mistake: mistake.path,
)
def test_what_kuberay_allows_and_we_do_not_is_found(mistake: Mistake) -> None:
    changed = with_mistake(CLUSTER, mistake)
    assert problems(changed)
    assert not schema_problems(changed, schema("RayCluster"))


@pytest.mark.parametrize(
    ("file", "name", "mistake"),
    [
        ("network.yaml", "stillhouse-ray", Misspelt("spec/podSelector/matchLabels")),
        ("network.yaml", "stillhouse-ray", Wrong("spec/policyTypes", "Ingress")),
        ("network.yaml", "stillhouse-ray", Missing("spec/podSelector/matchExpressions/0/operator")),
        ("network.yaml", "stillhouse-jobs", Misspelt("spec/ingress")),
        ("network.yaml", "stillhouse-jobs", Wrong("spec/ingress/0/ports", 8265)),
        ("network.yaml", "stillhouse-metrics", Misspelt("spec/ingress/0/from")),
        ("network.yaml", "stillhouse-submitter", Misspelt("spec/policyTypes")),
        ("network.yaml", "stillhouse-redis", Wrong("spec/ingress/0/from/0/podSelector", "redis")),
        ("redis.yaml", "Service", Missing("spec/ports/0/port")),
        ("redis.yaml", "Service", Misspelt("spec/selector")),
        ("redis.yaml", "StatefulSet", Missing("spec/selector")),
        ("redis.yaml", "StatefulSet", Wrong("spec/replicas", "1")),
        ("redis.yaml", "StatefulSet", Misspelt("spec/template/spec/containers/0/env/0/valueFrom")),
        ("redis.yaml", "StatefulSet", Missing("spec/template/spec/containers/0/name")),
    ],
)
def test_a_planted_mistake_in_a_plain_manifest_is_found(
    file: str, name: str, mistake: Mistake
) -> None:
    assert problems(with_mistake(document(f"kuberay/{file}", name), mistake))


# What a pod may do.


def liberties(pod: Pod) -> list[str]:
    """Return what a pod may do beyond Kubernetes' restricted standard and our own rules."""
    spec = pod.template["spec"]
    security = spec.get("securityContext", {})
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += [f"volume {v['name']} of the host" for v in spec.get("volumes", []) if "hostPath" in v]
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        found.append("runs as root")
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("no seccomp profile")
    for container in [*pod.containers, *spec.get("initContainers", [])]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            found.append("may gain privileges")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append("keeps capabilities")
        if {"runAsUser", "runAsNonRoot"} & own.keys():
            found.append("another user than the pod's")
        resources = container.get("resources", {})
        for bound in ("requests", "limits"):
            found += [f"no {n} {bound}" for n in ("cpu", "memory") if n not in resources[bound]]
        tag = container["image"].rpartition(":")[2]
        if ":" not in container["image"] or tag in ("latest", ""):
            found.append("an image without a version")
    return found


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_takes_no_liberties(pod: Pod) -> None:
    assert liberties(pod) == []


@pytest.mark.parametrize(
    "mistake",
    [
        Wrong("spec/securityContext/runAsNonRoot", False),
        Wrong("spec/securityContext/runAsUser", 0),
        Missing("spec/securityContext/seccompProfile"),
        Wrong("spec/containers/0/securityContext/allowPrivilegeEscalation", True),
        Missing("spec/containers/0/securityContext/capabilities"),
        Missing("spec/containers/0/resources/limits/memory"),
        Wrong("spec/containers/0/image", "stillhouse:latest"),
    ],
)
@pytest.mark.parametrize("pod", PODS)
def test_a_liberty_is_found(pod: Pod, mistake: Mistake) -> None:
    assert liberties(pod._replace(template=with_mistake(pod.template, mistake)))


@pytest.mark.parametrize("pod", PODS)
def test_only_the_head_holds_rights_on_kubernetes(pod: Pod) -> None:
    mounts_token = pod.template["spec"].get("automountServiceAccountToken", True)
    assert mounts_token == pod.where.endswith("headGroupSpec.template")


# Who reaches whom.


def ray_pods() -> list[tuple[str, Pod]]:
    """Return the head's and the workers' pods by node type, with the labels that KubeRay adds."""
    found = []
    for resource in RESOURCES.values():
        for pod in pods(resource):
            if "submitterPodTemplate" in pod.where:
                continue
            node_type = "head" if pod.where.endswith("headGroupSpec.template") else "worker"
            template = copy.deepcopy(pod.template)
            template["metadata"]["labels"]["ray.io/node-type"] = node_type
            found.append((node_type, pod._replace(template=template)))
    return found


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Say whether a label selector selects labels."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    held = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] in ("Exists", "DoesNotExist")
        held &= (expression["key"] in labels) == (expression["operator"] == "Exists")
    return held


def policies(labels: dict[str, str]) -> set[str]:
    """Return the network policies that hold for a pod."""
    return {
        policy["metadata"]["name"]
        for policy in documents("kuberay/network.yaml")
        if selects(policy["spec"]["podSelector"], labels)
    }


def test_every_pod_is_closed_but_for_what_its_policies_open() -> None:
    of_type = {
        "head": {"stillhouse-ray", "stillhouse-jobs", "stillhouse-metrics"},
        "worker": {"stillhouse-ray", "stillhouse-metrics"},
    }
    for node_type, pod in ray_pods():
        assert policies(pod.labels) == of_type[node_type], pod.where
    [submitter] = [pod for pod in pods(JOB) if "submitterPodTemplate" in pod.where]
    assert policies(submitter.labels) == {"stillhouse-submitter"}
    [redis] = pods(document("kuberay/redis.yaml", "StatefulSet"))
    assert policies(redis.labels) == {"stillhouse-redis"}
    for policy in documents("kuberay/network.yaml"):
        assert "Ingress" in policy["spec"]["policyTypes"]


def test_a_policy_opens_only_ports_that_the_pod_opens() -> None:
    opened = {
        "stillhouse-jobs": ("headGroupSpec", "dashboard", "dashboard-port"),
        "stillhouse-metrics": ("headGroupSpec", "metrics", "metrics-export-port"),
    }
    for name, (group, port_name, parameter) in opened.items():
        [rule] = document("kuberay/network.yaml", name)["spec"]["ingress"]
        [port] = [each["port"] for each in rule["ports"]]
        for spec in (CLUSTER["spec"], JOB["spec"]["rayClusterSpec"]):
            head = spec[group]
            [container] = head["template"]["spec"]["containers"]
            ports = {each["name"]: each["containerPort"] for each in container["ports"]}
            assert ports[port_name] == port
            assert head["rayStartParams"][parameter] == str(port)


@each_resource
def test_the_ports_that_the_head_names_are_those_that_ray_opens(kind: str) -> None:
    spec = CLUSTER["spec"] if kind == "RayCluster" else JOB["spec"]["rayClusterSpec"]
    parameters = {
        "gcs-server": "port",
        "dashboard": "dashboard-port",
        "client": "ray-client-server-port",
        "metrics": "metrics-export-port",
    }
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        [container] = group["template"]["spec"]["containers"]
        for port in container["ports"]:
            assert group["rayStartParams"][parameters[port["name"]]] == str(port["containerPort"])
    options = {option.removeprefix("--") for each in start.params for option in each.opts}
    for group in groups:
        assert group["rayStartParams"].keys() <= options


def test_redis_is_where_the_heads_look_for_it() -> None:
    service = document("kuberay/redis.yaml", "Service")
    stateful_set = document("kuberay/redis.yaml", "StatefulSet")
    [port] = service["spec"]["ports"]
    [pod] = pods(stateful_set)
    [container] = pod.containers
    [named] = [p for p in container["ports"] if p["name"] == port["targetPort"]]
    [rule] = document("kuberay/network.yaml", "stillhouse-redis")["spec"]["ingress"]
    assert selects({"matchLabels": service["spec"]["selector"]}, pod.labels)
    assert selects(stateful_set["spec"]["selector"], pod.labels)
    assert [each["port"] for each in rule["ports"]] == [named["containerPort"]] == [port["port"]]
    [password] = container["env"]
    for spec in (CLUSTER["spec"], JOB["spec"]["rayClusterSpec"]):
        redis = spec["gcsFaultToleranceOptions"]
        assert redis["redisAddress"] == f"{service['metadata']['name']}:{port['port']}"
        assert redis["redisPassword"]["valueFrom"] == password["valueFrom"]


# What belongs together.


def test_the_job_runs_on_the_cluster_of_the_other_manifest() -> None:
    """But for the dashboard: on loopback where nobody else needs it."""
    cluster = copy.deepcopy(CLUSTER["spec"])
    head = cluster["headGroupSpec"]["rayStartParams"]
    assert head["dashboard-host"] == "127.0.0.1"
    head["dashboard-host"] = "0.0.0.0"
    assert JOB["spec"]["rayClusterSpec"] == cluster


def test_the_secrets_are_named_in_the_readme_and_kept_out_of_the_manifests() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
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
        assert f"secret generic {name} " in readme
    assert all(found["kind"] != "Secret" for found in EVERYTHING)


def test_the_files_that_the_readme_applies_are_all_there_are() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for file in FILES:
        assert f"deploy/kuberay/{file}" in readme


def test_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [ours] = [r for r in map(Requirement, project["dependencies"]) if r.name == "ray"]
    assert {"default", "rllib"} <= ours.extras  # the job API and the autoscaler need "default"
    for spec in (CLUSTER["spec"], JOB["spec"]["rayClusterSpec"]):
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
    groups = JOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]
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
