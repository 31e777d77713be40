"""Teachers in `NAME.safetensors` with `NAME.json` beside it.

The JSON is a `PolicySpec`, as `save_policy` writes it, or a published model card, which
`common.teachers.model_card` turns into one.
"""

import json
from pathlib import Path
from typing import Any

from common.errors import PolicyFileError
from common.policies.policy import Policy, load_policy, policy_from_state, read_safetensors
from common.teachers.model_card import spec_from_card

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""


def is_safetensors(path: Path) -> bool:
    """Tell whether a file begins as safetensors do: a header's length, then its JSON."""
    with path.open("rb") as file:
        head = file.read(_LENGTH_BYTES + 1)
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    return head[_LENGTH_BYTES:] == b"{" and 2 <= length <= _MAX_HEADER_BYTES


def load_safetensors(path: Path, trust: bool) -> Policy:
    """Read a policy from a `.safetensors` file and the `.json` beside it.

    Args:
        path: of the `.safetensors`.
        trust: whether it may hold a program that could do more than compute.

    Raises:
        PolicyFileError: a file is missing, damaged, of another kind, or not to be trusted.
        MismatchError: the network cannot take the observations that the JSON tells of.
        ValidationError: the JSON's values make no specification.
    """
    # Before the JSON: a foreign file is the better complaint where both are wrong.
    state = read_safetensors(path)
    card_path = path.with_suffix(".json")
    tree = _read_json(card_path)
    if tree.get("format") == "stillhouse/policy":
        return load_policy(path, trust=trust)
    if "architecture" not in tree:
        raise PolicyFileError(
            f"{card_path}: neither a policy spec nor a model card (no 'format' of "
            f"'stillhouse/policy', no 'architecture'); give the JSON that came with {path.name}"
        )
    spec = spec_from_card(tree, state, source=str(card_path))
    single = {name: tensor.float() for name, tensor in state.items()}
    return policy_from_state(spec, single, source=str(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise PolicyFileError(
            f"{path}: missing; it tells what the weights are, so put it beside them"
        ) from None
    except OSError as error:
        raise PolicyFileError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise PolicyFileError(f"{path}: not JSON ({error}); fetch it again") from None
    if not isinstance(tree, dict):
        raise PolicyFileError(
            f"{path}: a JSON {type(tree).__name__}, not an object; fetch it again"
        )
    return tree
