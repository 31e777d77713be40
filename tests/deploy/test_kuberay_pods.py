"""What the pods of the manifests for KubeRay may do."""

import pytest

from tests.deploy.kuberay_manifests import EVERYTHING
from tests.deploy.manifests import Missing, Mistake, Pod, Wrong, pods, with_mistake

PODS = [
    pytest.param(pod, id=f"{found['metadata']['name']}-{pod.where}")
    for found in EVERYTHING
    for pod in pods(found)
]


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
