import pytest

from common.credentials import refuse_credentials
from common.errors import ConfigError


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIAKEY:hidden@bucket/runs",
        "s3://AKIAKEY:hid:den@bucket",
        "s3://AKIAKEY:hid/den@bucket",
        "s3://AKIAKEY:0123@bucket",
        "s3://:hidden@bucket",
        "gs://name:hidden@bucket/runs?x=1",
        "redis://default:hidden@host:6379",
        "https://name:hidden@host/teacher.zip",
        "S3://AKIAKEY:hidden@bucket",
        "teacher.path=s3://AKIAKEY:hidden@bucket",
    ],
)
def test_an_address_with_credentials_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigError, match="in the environment") as refused:
        refuse_credentials("teacher.path", address)
    assert "teacher.path" in str(refused.value)
    assert "hidden" not in str(refused.value)
    assert "AKIAKEY" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        "s3://bucket/runs",
        "s3://bucket/a:b@c",
        "s3://bucket?endpoint_override=localhost:9000",
        "redis://host:6379",
        "http://host:9000/a@b",
        "ray://host:10001",
        "name@host:path",
        "10.0.0.1:6379",
        "your_package:Env-v0",
        "",
        3,
        None,
    ],
)
def test_other_values_are_good(value: object) -> None:
    refuse_credentials("key", value)
    refuse_credentials("", {"table": {"key": [value]}})


def test_the_key_of_a_nested_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^env\.kwargs\.source: "):
        refuse_credentials("", {"env": {"kwargs": {"source": ["x", "s3://k:hidden@b"]}}})
