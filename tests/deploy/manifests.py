"""Reads deploy/'s manifests, and plants mistakes in copies of them."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Ray's setting for how long a process waits for a head that is away before it ends."""

Document = dict[str, Any]


def documents(path: str) -> list[Document]:
    """Return the documents of a YAML file under deploy/."""
    return list(yaml.safe_load_all((DEPLOY / path).read_text(encoding="utf-8")))


def document(path: str, name: str | None = None) -> Document:
    """Return a file's only document, or the one of this kind or name."""
    [found] = [
        each
        for each in documents(path)
        if name in (None, each.get("kind"), each.get("metadata", {}).get("name"))
    ]
    return found


class Pod(NamedTuple):
    """A pod template and where it stands."""

    where: str
    template: Document

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the pods made from it."""
        labels: dict[str, str] = self.template["metadata"]["labels"]
        return labels

    @property
    def containers(self) -> list[Document]:
        """Its containers."""
        containers: list[Document] = self.template["spec"]["containers"]
        return containers


def pods(tree: Any, where: str = "") -> Iterator[Pod]:
    """Find the pod templates in a document, by the key that they stand under."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            inner = f"{where}.{key}" if where else key
            if key in ("template", "submitterPodTemplate"):
                yield Pod(inner, value)
            else:
                yield from pods(value, inner)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from pods(value, f"{where}.{index}")


def kubernetes_problems(found: Document) -> list[str]:
    """Hold a document, or the pods of a custom resource, against Kubernetes' own schemas."""
    version = kubernetes_validate.latest_version()
    objects = [found]
    if found["apiVersion"].startswith("ray.io/"):
        objects = [{"apiVersion": "v1", "kind": "Pod", **pod.template} for pod in pods(found)]
    problems = []
    for each in objects:
        try:
            kubernetes_validate.validate(each, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{'.'.join(map(str, error.path))}: {error.message}")
    return problems


class Misspelt(NamedTuple):
    """A key with its last letter lost."""

    path: str

    def plant(self, tree: Any) -> None:
        node, key = _find(tree, self.path)
        node[key[:-1]] = node.pop(key)


class Missing(NamedTuple):
    """A key left out."""

    path: str

    def plant(self, tree: Any) -> None:
        node, key = _find(tree, self.path)
        del node[key]


class Wrong(NamedTuple):
    """Another value, most often of another type."""

    path: str
    value: Any

    def plant(self, tree: Any) -> None:
        node, key = _find(tree, self.path)
        assert node[key] != self.value
        node[key] = self.value


Mistake = Misspelt | Missing | Wrong


def with_mistake(tree: Document, mistake: Mistake) -> Document:
    """Return a copy with a mistake in it."""
    changed = copy.deepcopy(tree)
    mistake.plant(changed)
    return changed


def _find(tree: Any, path: str) -> tuple[Any, Any]:
    *parents, last = path.split("/")
    for part in parents:
        tree = tree[int(part) if isinstance(tree, list) else part]
    key = int(last) if isinstance(tree, list) else last
    assert isinstance(tree, list) or key in tree, f"{path}: not there"
    return tree, key
