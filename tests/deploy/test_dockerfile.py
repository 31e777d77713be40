"""The image: well-formed, small rights, fixed versions, no secrets, as the manifests expect it."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cluster.recipe.config import load_recipe
from tests.deploy.dockerfile import TEXT, WORKDIR, instructions
from tests.deploy.manifests import ROOT

SECRET = re.compile(r"(?i)(secret|password|passwd|token|credential|access_key|api_key)\w*\s*=\s*\S")


def lint(text: str) -> list[str]:
    """Return what hadolint says of a Dockerfile."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert program is not None, "hadolint is not installed beside python"
    answer = subprocess.run(
        [program, "--format", "json", "-"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [
        f"{found['code']} line {found['line']}: {found['message']}"
        for found in json.loads(answer.stdout)
    ]


def liberties(text: str) -> list[str]:
    """Return what we do not want in an image although it may be well-formed."""
    found = []
    steps = instructions(text)
    users = [step.rest for step in steps if step.word == "USER"]
    # A number, because Kubernetes cannot tell whether a name is root.
    if not users or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1]):
        found.append("does not end as a numbered user other than root")
    stages = set()
    for step in steps:
        if step.word == "FROM":
            image, *name = re.split(r"(?i)\s+as\s+", step.rest)
            stage = re.sub(r"\$\{\w+\}", "", image)
            own = any(known.startswith(stage) for known in stages)
            if not own and not re.search(r":\d+(\.\d+){2}[-\w.]*(@sha256:\w+)?$", image):
                found.append(f"{image}: not a fixed version")
            stages.update(name)
        settings = step.rest.replace("RAY_AUTH_MODE=token", "")
        if step.word in ("ENV", "ARG") and SECRET.search(settings):
            found.append(f"{step.word} holds a secret")
        if step.word == "ADD":
            found.append("ADD fetches and unpacks; use COPY")
        if step.word in ("EXPOSE", "ONBUILD"):
            found.append(f"{step.word} is not wanted")
        if step.word == "RUN" and re.search(
            r"(curl|wget)[^|]*\|\s*(ba)?sh|sudo |chmod (-R )?777", step.rest
        ):
            found.append("RUN trusts too much")
    return found


def test_the_dockerfile_is_good() -> None:
    assert lint(TEXT) == []
    assert liberties(TEXT) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("USER 1000:1000", "USER root"),
        ("USER 1000:1000", "USER 0"),
        ("USER 1000:1000", "USER stillhouse"),
        ("USER 1000:1000\n", ""),
        ("python:3.12.11-slim-bookworm", "python:latest"),
        ("python:3.12.11-slim-bookworm", "python"),
        ("ENV RAY_AUTH_MODE=token", "ENV RAY_AUTH_TOKEN=0123456789abcdef"),
        ("ARG VARIANT=cpu", "ARG VARIANT=cpu\nARG AWS_SECRET_ACCESS_KEY=hidden"),
        ("COPY . .", "ADD https://example.com/archive.tar.gz ."),
        ("WORKDIR /opt/stillhouse", "WORKDIR /opt/stillhouse\nEXPOSE 8265"),
    ],
)
def test_a_planted_liberty_is_found(old: str, new: str) -> None:
    assert old in TEXT
    assert liberties(TEXT.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RUN apt-get update", "RUNN apt-get update"),
        ("FROM base AS with-cpu", "FROM base with-cpu"),
        ("FROM base AS with-cuda", "FROM base AS with-cpu"),
        ('CMD ["stillhouse", "--help"]', 'CMD ["stillhouse", "--help"'),
        ("WORKDIR /opt/stillhouse", "WORKDIR opt/stillhouse"),
        ("--no-cache-dir .", "."),
        ("COPY . .", "COPY ."),
    ],
)
def test_a_planted_mistake_is_found(old: str, new: str) -> None:
    assert old in TEXT
    assert lint(TEXT.replace(old, new))


def test_both_variants_hold_the_torch_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [torch] = [each for each in project["dependencies"] if Requirement(each).name == "torch"]
    installs = [step.rest for step in instructions(TEXT) if '"torch' in step.rest]
    assert len(installs) == 2
    for install in installs:
        assert f'"{torch}"' in install
    versions = re.search(r"FROM python:(\d+\.\d+)", TEXT)
    assert versions is not None
    assert versions[1] in Requirement(f"python{project['requires-python']}").specifier


def test_ray_starts_closed_and_silent_in_the_image() -> None:
    [settings] = [s.rest for s in instructions(TEXT) if s.word == "ENV" and "RAY_AUTH" in s.rest]
    assert {"RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0"} <= set(settings.split())


def copied() -> set[str]:
    """Return the top-level paths that .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"  # everything else is an exception
    return {rule.removeprefix("!") for rule in rules if rule.startswith("!")}


def test_only_the_service_enters_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    let_through = copied()
    for path in let_through:
        assert (ROOT / path).exists(), path
    assert {name.removesuffix("*") for name in packages} <= let_through
    files = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    assert files <= let_through
    assert not {".git", "tests", "runs", ".venv"} & let_through


@pytest.mark.parametrize(
    "recipe", sorted((ROOT / "deploy" / "recipes").glob("*.toml")), ids=lambda path: path.name
)
def test_a_recipe_of_the_image_finds_its_teacher_there(recipe: Path) -> None:
    """Recipes name teachers relative to themselves, so both lie in the image as in the checkout."""
    assert WORKDIR == "/opt/stillhouse"
    if "[dataset]" in recipe.read_text():
        return  # it brings its teacher, and comes from a volume
    config = load_recipe(recipe, [])
    if config.teacher is None or config.refresh is not None:  # versions come from a volume too
        return
    inside = Path(config.teacher.path).relative_to(ROOT)
    assert any(inside.is_relative_to(path) for path in copied())
