"""Who reaches whom by the manifests for KubeRay: policies, ports and Redis."""

import pytest
from ray.scripts.scripts import start

from tests.deploy.kuberay_manifests import CLUSTER_SPECS, JOB, ray_pods
from tests.deploy.manifests import Document, document, documents, pods


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
        for spec in CLUSTER_SPECS.values():
            head = spec[group]
            [container] = head["template"]["spec"]["containers"]
            ports = {each["name"]: each["containerPort"] for each in container["ports"]}
            assert ports[port_name] == port
            assert head["rayStartParams"][parameter] == str(port)


@pytest.mark.parametrize("kind", CLUSTER_SPECS)
def test_the_ports_that_the_head_names_are_those_that_ray_opens(kind: str) -> None:
    spec = CLUSTER_SPECS[kind]
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
    for spec in CLUSTER_SPECS.values():
        redis = spec["gcsFaultToleranceOptions"]
        assert redis["redisAddress"] == f"{service['metadata']['name']}:{port['port']}"
        assert redis["redisPassword"]["valueFrom"] == password["valueFrom"]
