"""Teachers that a function of the user's makes: `package.module:function`.

The function returns a torch module and a mapping like the JSON of `common.teachers.sidecar`. It is
called once; the module travels on from there, pickled.
"""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from common.config import validate
from common.errors import PolicyFileError
from common.policies.policy import Policy
from common.programs.module import module_to_bytes, open_module
from common.teachers.sidecar import Origin, Sidecar, describe

_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def names_factory(text: str) -> bool:
    """Tell whether a teacher's path is `package.module:function`."""
    return _NAME.fullmatch(text) is not None


def load_factory(path: Path, trust: bool) -> Policy:
    """Call a function that makes a teacher.

    Args:
        path: `package.module:function`.
        trust: whether its code may run.

    Raises:
        PolicyFileError: it is not trusted, fails, or returns something else.
        ConfigError: its mapping is wrong.
    """
    name = str(path)
    if not names_factory(name):
        raise PolicyFileError(f"{name}: no name of a function; write package.module:function")
    module_name, _, function_name = name.partition(":")
    if not trust:
        raise PolicyFileError(
            f"{name}: imports the module {module_name}, which runs its code; if you trust it, set "
            f"teacher.trust = true"
        )
    module, told = _result(name, _call(name, module_name, function_name))
    try:
        content = module_to_bytes(module)
    except PolicyFileError as error:
        raise PolicyFileError(f"{name}: {error}") from None
    sidecar = validate(Sidecar, told, name)
    sidecar = sidecar.model_copy(update={"name": sidecar.name or function_name})
    return describe(
        open_module(content), sidecar, "module", content, Origin(name, "the mapping it returns")
    )


def _call(name: str, module_name: str, function_name: str) -> Any:
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise PolicyFileError(
            f"{name}: cannot be imported ({error}); is its folder in PYTHONPATH?"
        ) from None
    try:
        return function()
    # The user's code may raise anything.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PolicyFileError(f"{name}: failed ({reason:.300})") from error


def _result(name: str, result: Any) -> tuple[nn.Module, Mapping[str, Any]]:
    match result:
        case (nn.Module() as module, Mapping() as told):
            return module, told
        case nn.Module() as module:
            return module, {}
    raise PolicyFileError(
        f"{name}: returned {type(result).__name__}; return a torch module and a mapping that tells "
        f"observation, dist and what else the JSON beside a program does"
    )
