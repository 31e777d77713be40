"""The manifests for KubeRay, as the tests look at them."""

import copy

from tests.deploy.manifests import DEPLOY, Pod, document, documents, pods

CLUSTER = document("kuberay/cluster.yaml")
JOB = document("kuberay/job.yaml")
RESOURCES = {"RayCluster": CLUSTER, "RayJob": JOB}
CLUSTER_SPECS = {"RayCluster": CLUSTER["spec"], "RayJob": JOB["spec"]["rayClusterSpec"]}
"""The cluster that each resource describes."""

FILES = sorted(path.name for path in (DEPLOY / "kuberay").glob("*.yaml"))
EVERYTHING = [found for file in FILES for found in documents(f"kuberay/{file}")]


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
