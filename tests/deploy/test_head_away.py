"""How long what belongs to a cluster waits for its head, wherever deploy/ starts Ray."""

from pathlib import Path

import pytest
import ray

from tests.deploy.dockerfile import TEXT, instructions
from tests.deploy.kuberay_manifests import CLUSTER_SPECS
from tests.deploy.manifests import PATIENCE, Document

PATIENT_S = 300


def waits_s(group: Document) -> int:
    """Return the seconds that the pods of a group wait for the head."""
    [container] = group["template"]["spec"]["containers"]
    [value] = [each["value"] for each in container["env"] if each["name"] == PATIENCE]
    return int(value)


def test_ray_has_the_setting() -> None:
    """A name that Ray does not know has no effect, and nothing says so."""
    raylet = Path(ray.__file__).parent / "core" / "src" / "ray" / "raylet" / "raylet"
    assert PATIENCE.encode() in raylet.read_bytes()


def test_the_image_is_patient() -> None:
    settings = " ".join(step.rest for step in instructions(TEXT) if step.word == "ENV")
    assert f"{PATIENCE}={PATIENT_S}" in settings.split()


@pytest.mark.parametrize("kind", CLUSTER_SPECS)
def test_workers_are_patient_and_the_head_gives_up_before_them(kind: str) -> None:
    """Kubernetes starts a head again once it has ended; its workers must still be there then."""
    spec = CLUSTER_SPECS[kind]
    workers = [waits_s(group) for group in spec["workerGroupSpecs"]]
    assert min(workers) >= PATIENT_S + waits_s(spec["headGroupSpec"])
