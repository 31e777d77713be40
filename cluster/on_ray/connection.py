"""How this process comes to a Ray cluster: one of its own on this machine, or one that runs.

Code travels with it: to a cluster that already runs, the checkout goes along as Ray's working
directory, so that every node runs the same code as this process, whatever is installed there. A
Ray job brings its own, and an installation without a checkout is taken to be on every node.
"""

import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError, RayError

from cluster.on_ray.authentication import protect_local_token
from cluster.on_ray.board import NAMESPACE
from cluster.on_ray.errors import one_line
from common.errors import ResourceError, RunFailedError, StillhouseError

OBJECT_STORE_BYTES = 512 * 2**20
CONNECT_TIMEOUT_S = 10.0

HERE = "auto"
"""To Ray, the address of the cluster on this machine."""

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""The variable of the environment from which commands take an address that no option gives."""

CHECKOUT = Path(__file__).resolve().parents[2]
LEFT_OUT = ("/.git", "/.venv", "/runs", "/build", "/.ci")
"""Of the checkout: no actor needs them."""

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable in which a Ray job finds what it was submitted with."""

_COMMON: dict[str, Any] = {
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "namespace": NAMESPACE,
}
_THREADS = {"OMP_NUM_THREADS": "1"}


def start_here(num_cpus: int) -> None:
    """Start a cluster on this machine that ends with this process.

    Raises:
        RunFailedError: it does not start.
    """
    try:
        protect_local_token()
        ray.init(
            address="local",
            num_cpus=num_cpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            runtime_env={"env_vars": _THREADS},
            **_COMMON,
        )
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise RunFailedError(f"Ray does not start on this machine ({one_line(error)})") from error


def connect(address: str | None, *, with_code: bool = True) -> None:
    """Join a cluster that runs.

    Args:
        address: HOST:PORT, or "auto" for the one on this machine; None where nobody gave one, which
            is the one on this machine, too.
        with_code: whether actors will be started, which need this checkout.

    Raises:
        ResourceError: there is no cluster that this process can use.
    """
    runtime_env: dict[str, Any] = {"env_vars": _THREADS} if with_code else {}
    if with_code and _is_checkout() and not _brought_by_a_job():
        runtime_env |= {"working_dir": str(CHECKOUT), "excludes": list(LEFT_OUT)}
    try:
        _check_reachable(address or HERE)
        ray.init(address=address or HERE, runtime_env=runtime_env, **_COMMON)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise _no_cluster(address, error) from error


def _is_checkout() -> bool:
    return (CHECKOUT / "pyproject.toml").is_file()


def _brought_by_a_job() -> bool:
    """Whether this process is a Ray job that was submitted with its code."""
    tree = json.loads(os.environ.get(JOB_CONFIG) or "{}")
    runtime_env = tree.get("runtime_env") or {}
    return "working_dir" in runtime_env or "py_modules" in runtime_env


def _check_reachable(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT; Ray itself takes minutes to find out."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "://" not in address:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S):
            pass


def _no_cluster(address: str | None, error: Exception) -> StillhouseError:
    if address is None and isinstance(error, ConnectionError):
        return ResourceError(
            "no Ray cluster is running here, and this command is about the runs of one; start one "
            "with ray start --head, or give --address HOST:PORT of another; what a --local run "
            "came to lies in its run directory"
        )
    given = _as_given(address)
    if _lacks_token(error):
        return ResourceError(
            f"{given}: the cluster asks for its token, and this process has another or none; set "
            f"RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file that holds it"
        )
    return ResourceError(
        f"{given}: cannot use a Ray cluster there ({one_line(error)}); give the address of a "
        f"running one"
    )


def _as_given(address: str | None) -> str:
    """Return an address as whoever gave it wrote it: the environment, or a command line."""
    if address is None:
        return "this machine"
    if address == os.environ.get(ADDRESS_VARIABLE):
        return f"{ADDRESS_VARIABLE}={address}"
    return f"--address {address}"


def _lacks_token(error: Exception) -> bool:
    """Say whether Ray was refused; what it raises in the end only quotes the reason."""
    return isinstance(error, AuthenticationError) or "AuthenticationError" in str(error.__cause__)
