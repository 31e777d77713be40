from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from actors.action_bars import Bar
from actors.panels import ACCENTS, WIDTH, Moment, Panel, State, beside, number

SCREEN = np.full((210, 160, 3), 40, np.uint8)


def panel(*, screen: npt.NDArray[np.uint8] = SCREEN, **changes: Any) -> Panel:
    fields: dict[str, Any] = {
        "title": "teacher",
        "caption": "action probabilities",
        "names": ("NOOP", "LEFT"),
        "widest": "100%",
        "num_bars": 2,
        "accent": ACCENTS[0],
    }
    return Panel(screen=screen, **(fields | changes))


def moment(
    *,
    share: float = 0.5,
    value: float = 3.0,
    step: int = 7,
    state: State = "playing",
    screen: npt.NDArray[np.uint8] = SCREEN,
) -> Moment:
    bars = (Bar("NOOP", 0.0, share, "50%", True), Bar("LEFT", 0.0, 1 - share, "50%", False))
    return Moment(screen=screen, return_so_far=value, step=step, bars=bars, state=state)


def drawn(image: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def accented(image: Image.Image) -> int:
    """Return how many pixels have the panel's accent."""
    colour = tuple(int(ACCENTS[0][place : place + 2], 16) for place in (1, 3, 5))
    return int((drawn(image) == colour).all(-1).sum())


def test_bars_are_as_long_as_they_say() -> None:
    ours = panel()
    none, half, whole = (accented(ours.draw(moment(share=share))) for share in (0.0, 0.5, 1.0))
    assert none < half < whole
    assert whole - half == pytest.approx(half - none, rel=0.05)


@pytest.mark.parametrize(
    "changes", [{"value": 4.0}, {"step": 8}, {"state": "ended"}, {"state": "cut"}]
)
def test_return_step_and_end_are_seen(changes: dict[str, object]) -> None:
    ours = panel()
    first, second = ours.draw(moment()), ours.draw(moment(**changes))  # type: ignore[arg-type]
    assert (drawn(first) != drawn(second)).any()


@pytest.mark.parametrize(
    ("shape", "size"),
    [((210, 160), (420, 320)), ((400, 600), (240, 360)), ((96, 96), (288, 288))],
)
def test_screens_are_seen_whole(shape: tuple[int, int], size: tuple[int, int]) -> None:
    screen = np.full((*shape, 3), (255, 0, 255), np.uint8)
    image = panel(screen=screen).draw(moment(screen=screen))
    shown = (drawn(image) == (255, 0, 255)).all(-1)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    assert (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) == size
    assert shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_names_and_titles_that_are_too_long_do_not_run_out_of_their_place() -> None:
    ours = panel(title="a teacher of a very long name " * 3, names=("NOOP" * 20, "LEFT"))
    image = drawn(ours.draw(moment()))
    assert (image[:, -5:] == image[0, 0]).all()


def test_panels_stand_side_by_side_in_an_even_frame() -> None:
    left, right = panel(num_bars=2), panel(num_bars=6)
    frame = beside([left.draw(moment()), right.draw(moment())])
    assert frame.shape == (right.height + right.height % 2, 2 * WIDTH, 3)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame[: left.height, :WIDTH], drawn(left.draw(moment())))


@pytest.mark.parametrize(
    ("value", "text"), [(20.0, "20"), (-143.26, "-143.3"), (1234.5, "1,234.5"), (-0.0, "0")]
)
def test_returns_are_read_easily(value: float, text: str) -> None:
    assert number(value) == text
