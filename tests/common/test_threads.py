import os
import sys
import threading

import pytest

from common.threads import LAST, give_way


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows urgencies of threads")
def test_a_thread_that_gives_way_comes_last_with_those_that_it_starts() -> None:
    found: dict[str, int] = {}

    def note(who: str) -> None:
        found[who] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def busy() -> None:
        give_way()
        note("busy")
        child = threading.Thread(target=note, args=("child",))
        child.start()
        child.join()

    note("before")
    thread = threading.Thread(target=busy)
    thread.start()
    thread.join()
    note("after")
    assert found["busy"] == found["child"] == LAST
    assert found["before"] == found["after"] < LAST
