"""pyarrow's filesystems behind the places of `common.storage`: which one, and what its errors mean.

What the cloud's own tools read from the environment holds here too: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL for s3://,
GOOGLE_APPLICATION_CREDENTIALS for gs://. Nothing of that may stand in a URI, which ends up in logs
and recipes.
"""

import os
import re
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs

from common.errors import ConfigError

S3_CONNECT_TIMEOUT_S = 10.0
S3_REQUEST_TIMEOUT_S = 30.0
S3_MAX_ATTEMPTS = 3

LOCAL = "file"
"""The scheme of this machine's disks."""
_ACCESS = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE_DOES_NOT|HTTP status 40[13]"
)
_NETWORK = re.compile(r"NETWORK_CONNECTION|REQUEST_TIMEOUT|curlCode|timed? ?out", re.IGNORECASE)


@lru_cache(maxsize=1)
def local_filesystem() -> Any:
    """Return the filesystem of this machine's disks."""
    return fs.LocalFileSystem()


def remote_filesystem(scheme: str, authority: str) -> Any:
    """Return the filesystem of a bucket or host, as the environment says now to reach it.

    Raises:
        ConfigError: the environment says nonsense.
    """
    return _remote_filesystem(scheme, authority, _s3_settings())


@lru_cache(maxsize=8)
def _remote_filesystem(scheme: str, authority: str, s3: tuple[str | None, ...]) -> Any:
    """Return the filesystem of a bucket or host; `s3` tells settings apart."""
    if scheme != "s3":
        return fs.FileSystem.from_uri(f"{scheme}://{authority}/")[0]
    endpoint, region, key, secret, token = s3
    address = urlsplit(endpoint or "")
    if region is None:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(authority)
    return fs.S3FileSystem(
        access_key=key,
        secret_key=secret,
        session_token=token,
        region=region,
        scheme=address.scheme or "https",
        endpoint_override=address.netloc or None,
        connect_timeout=S3_CONNECT_TIMEOUT_S,
        request_timeout=S3_REQUEST_TIMEOUT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=S3_MAX_ATTEMPTS),
    )


def _s3_settings() -> tuple[str | None, ...]:
    """Return endpoint, region, key, secret and token; without a key, AWS's own chain finds one."""

    def of(*names: str) -> str | None:
        return next((os.environ[name] for name in names if os.environ.get(name)), None)

    endpoint = of("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if endpoint is not None and not urlsplit(endpoint).netloc:
        raise ConfigError(f"AWS_ENDPOINT_URL = {endpoint}: write http://host:port")
    key, secret = of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY")
    if (key is None) != (secret is None):
        raise ConfigError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: set both, or none")
    return endpoint, of("AWS_REGION", "AWS_DEFAULT_REGION"), key, secret, of("AWS_SESSION_TOKEN")


def reason_of(error: Exception, scheme: str, path: str) -> str:
    """Return what an error of a filesystem means, in words.

    Args:
        error: what it raised.
        scheme: `LOCAL`, or the URI's.
        path: of the file or folder within its filesystem.
    """
    errno = getattr(error, "errno", None)
    if scheme == LOCAL and errno:
        return os.strerror(errno)
    text = " ".join(str(error).split())
    if scheme == "s3":
        if _NETWORK.search(text):
            where = _s3_settings()[0] or "AWS"
            return f"no answer from {where}; check AWS_ENDPOINT_URL and the network"
        if _ACCESS.search(text):
            return "access denied; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        if "NO_SUCH_BUCKET" in text or re.search(r"[Bb]ucket '[^']*' not found", text):
            return f"there is no bucket {path.split('/', 1)[0]!r}; create it"
    return text
