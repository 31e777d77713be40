"""KubeRay's own definitions of its resources, made strict.

Kubernetes drops a key that it does not know; here it is a mistake, because it is misspelt.
"""

from pathlib import Path
from typing import Any

import jsonschema
import yaml


def strict_schema(path: Path) -> dict[str, Any]:
    """Return the OpenAPI schema of version v1 as a JSON schema that refuses unknown keys."""
    definition = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    [version] = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    _make_strict(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def schema_problems(resource: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Hold a custom resource against its strict schema."""
    return [
        f"{'.'.join(map(str, error.path))}: {error.message}"
        for error in jsonschema.Draft202012Validator(schema).iter_errors(resource)
    ]


def _make_strict(schema: Any) -> None:
    if isinstance(schema, list):
        for each in schema:
            _make_strict(each)
    elif isinstance(schema, dict):
        if schema.get("x-kubernetes-int-or-string"):
            schema.pop("type", None)
            schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        open_ended = schema.get("x-kubernetes-preserve-unknown-fields", False)
        if isinstance(schema.get("properties"), dict):
            if not open_ended and "additionalProperties" not in schema:
                schema["additionalProperties"] = False
            for each in schema["properties"].values():
                _make_strict(each)
        for key in ("items", "additionalProperties"):
            _make_strict(schema.get(key))
