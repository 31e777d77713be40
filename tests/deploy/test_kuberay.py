"""The manifests for KubeRay are valid, and a mistake in them is found."""

from functools import cache
from typing import Any

import pytest

from tests.deploy.crd_schema import schema_problems, strict_schema
from tests.deploy.kuberay_manifests import CLUSTER, EVERYTHING, RESOURCES
from tests.deploy.kuberay_model import model_problems
from tests.deploy.manifests import (
    ROOT,
    Document,
    Missing,
    Misspelt,
    Mistake,
    Wrong,
    document,
    kubernetes_problems,
    with_mistake,
)

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
