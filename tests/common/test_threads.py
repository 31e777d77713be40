import os
import sys
import threading

import pytest

from common.threads import give_way


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a class")
def test_a_thread_that_gives_way_comes_last_with_those_that_it_starts() -> None:
    found: dict[str, int] = {}

    def note(who: str) -> None:
        found[who] = os.sched_getscheduler(0)

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
    assert found["busy"] == found["child"] == os.SCHED_IDLE
    assert found["before"] == found["after"] == os.sched_getscheduler(0)
