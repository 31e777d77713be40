"""Frames of screens, against their definitions worked out slowly."""

import numpy as np
import pytest
from PIL import Image

from actors.environments.pictures import PICTURES, FieldPicture, ScreenPicture, area_weights
from common.errors import ConfigError

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 210, 160


@pytest.mark.parametrize(("pixels", "size"), [(210, 84), (160, 84), (7, 3), (6, 3), (5, 5)])
def test_area_weights_are_the_overlaps(pixels: int, size: int) -> None:
    """Cut every pixel into `size` parts: then areas are of whole parts."""
    wanted = np.zeros((size, pixels))
    for part in range(pixels * size):
        wanted[part // pixels, part // size] += 1 / pixels
    np.testing.assert_allclose(area_weights(pixels, size), wanted, atol=1e-6)


def test_the_screen_is_made_smaller_by_means_over_areas() -> None:
    screen = RNG.integers(256, size=(HEIGHT, WIDTH), dtype=np.uint8)
    frame = ScreenPicture(height=HEIGHT, width=WIDTH, size=10)(screen)
    wanted = screen.reshape(10, 21, 10, 16).mean((1, 3))
    np.testing.assert_allclose(frame, wanted, atol=0.5 + 1e-3)
    assert frame.dtype == np.uint8


def bytescale(image: np.ndarray) -> np.ndarray:
    """Do what scipy.misc.bytescale did, as its documentation tells."""
    low, high = image.min(), image.max()
    scale = 255.0 / ((high - low) or 1.0)
    return (((image - low) * scale).clip(0, 255) + 0.5).astype(np.uint8)


@pytest.mark.parametrize(("size", "rounding"), [(80, 0), (42, 1)])
@pytest.mark.parametrize("levels", [256, 3, 1])
def test_the_field_is_what_imresize_made_of_it(size: int, rounding: int, levels: int) -> None:
    """To the bit where it is made half as large, as teachers want it."""
    colours = RNG.integers(256, size=(levels, 3), dtype=np.uint8)
    screen = colours[RNG.integers(levels, size=(HEIGHT, WIDTH))]
    field = bytescale(screen[35:195].mean(2))
    wanted = np.asarray(Image.fromarray(field).resize((size, size), Image.Resampling.BILINEAR))
    frame = FieldPicture(height=HEIGHT, width=WIDTH, size=size)(screen)
    assert frame.shape == wanted.shape
    assert np.abs(frame.astype(int) - wanted).max() <= rounding


def test_what_lies_outside_the_field_is_not_seen() -> None:
    screen = RNG.integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture = FieldPicture(height=HEIGHT, width=WIDTH, size=80)
    other = screen.copy()
    other[:35], other[195:] = 255, 0
    np.testing.assert_array_equal(picture(other), picture(screen))


def test_a_frame_larger_than_the_screen_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"frame_size = 161: .* use at most 160"):
        ScreenPicture(height=HEIGHT, width=WIDTH, size=161)


def test_every_picture_says_what_it_is_made_from() -> None:
    assert {name: picture.colours for name, picture in PICTURES.items()} == {
        "screen": "gray",
        "field": "rgb",
    }
