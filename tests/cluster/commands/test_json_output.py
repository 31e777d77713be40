"""Who else prints does not get between a program and the JSON that it reads."""

import json
from threading import Thread

import pytest

from cluster.commands.json_output import standard_output_kept


@pytest.mark.parametrize("as_json", [True, False])
def test_only_json_is_left_on_standard_output(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with standard_output_kept(as_json):
        listener = Thread(target=print, args=("(raylet) a call is tried again",))
        listener.start()
        listener.join()
    print(json.dumps({"a": 1}))
    shown = capsys.readouterr()
    if as_json:
        assert json.loads(shown.out) == {"a": 1}
        assert shown.err == "(raylet) a call is tried again\n"
    else:
        assert shown.out.splitlines()[0] == "(raylet) a call is tried again"
