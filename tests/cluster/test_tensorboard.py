from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.tensorboard import TensorBoard
from tests.disk import files_up_to


def read(folder: Path) -> dict[int, float]:
    """Return the loss by step."""
    events = EventAccumulator(str(folder)).Reload()
    return {event.step: event.value for event in events.Scalars("loss")}


def test_figures_are_read_back_by_their_steps(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.add({"loss": 0.5, "kl": 0.25}, step=10)
    board.add({"loss": 0.25}, step=20)
    assert read(tmp_path) == {10: 0.5, 20: 0.25}


def test_two_processes_make_one_curve(tmp_path: Path) -> None:
    TensorBoard(tmp_path).add({"loss": 0.5}, step=10)
    TensorBoard(tmp_path).add({"loss": 0.25}, step=20)
    assert len(list(tmp_path.iterdir())) == 2
    assert read(tmp_path) == {10: 0.5, 20: 0.25}


def test_a_process_that_goes_on_from_earlier_replaces_what_was_later(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path)
    for step in (10, 20, 30):
        first.add({"loss": 0.5}, step=step)
    TensorBoard(tmp_path, goes_on_after=20).add({"loss": 0.25}, step=25)
    assert read(tmp_path) == {10: 0.5, 20: 0.5, 25: 0.25}


def test_a_disk_that_is_full_for_a_while_costs_its_events_alone(tmp_path: Path, caplog) -> None:
    board = TensorBoard(tmp_path)
    board.add({"loss": 4.0}, step=1)
    (file,) = tmp_path.iterdir()
    with files_up_to(file.stat().st_size + 10):
        board.add({"loss": 3.0}, step=2)
        board.add({"loss": 2.0}, step=3)
    board.add({"loss": 1.0}, step=4)
    assert read(tmp_path) == {1: 4.0, 4: 1.0}
    lost, back = caplog.messages
    assert "the run goes on without it" in lost
    assert back.endswith("is written again; it lacks 2 records")


def test_a_disk_that_is_full_from_the_start_costs_no_later_event(tmp_path: Path) -> None:
    with files_up_to(0):
        board = TensorBoard(tmp_path)
        board.add({"loss": 3.0}, step=1)
    board.add({"loss": 2.0}, step=2)
    board.add({"loss": 1.0}, step=3)
    assert read(tmp_path) == {2: 2.0, 3: 1.0}
