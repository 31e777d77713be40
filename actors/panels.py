"""Draws what is seen of a policy at play: title, return and step, the screen, actions as bars.

Two panels side by side are read on a phone of 390 pixels across, where their letters are half as
high as here.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from actors.action_bars import Bar
from actors.environments.rendered import Screen

State = Literal["playing", "ended", "cut"]

WIDTH = 384
MARGIN = 12
INNER = WIDTH - 2 * MARGIN
SCREEN_HEIGHT = 420
"""Screens are made as large as fits within this and `INNER`."""
TITLE_SIZE, TEXT_SIZE, BAR_SIZE = 26, 22, 20
TITLE_ROW, TEXT_ROW, BAR_ROW = 36, 32, 28

BACKGROUND, TRACK, IDLE = "#14171c", "#262b33", "#6b7480"
TEXT, FAINT = "#f2f4f7", "#aeb6c2"
ACCENTS = ("#f5a742", "#5aa9f8")
"""Of the left panel and of the right one: a teacher and its student as reports colour them."""


class Moment(NamedTuple):
    """What there is to see."""

    screen: Screen
    return_so_far: float
    step: int
    bars: tuple[Bar, ...]
    state: State


class Panel:
    """A panel of a fixed size.

    Args:
        title: who plays.
        caption: what the bars are.
        names: of all actions.
        widest: the widest label that a bar may have.
        num_bars: that are shown at a time.
        screen: one that the environment shows, for its size.
        accent: colour of what the policy does.
    """

    def __init__(
        self,
        title: str,
        *,
        caption: str,
        names: tuple[str, ...],
        widest: str,
        num_bars: int,
        screen: Screen,
        accent: str,
    ) -> None:
        self._fonts = {size: _font(size) for size in (TITLE_SIZE, TEXT_SIZE, BAR_SIZE)}
        self._title = self._fitted(title, TITLE_SIZE, INNER)
        self._caption, self._accent = caption, accent
        self._screen_size = _fitted_size(*screen.shape[:2])
        self._bars_top = MARGIN + TITLE_ROW + TEXT_ROW + self._screen_size[1] + MARGIN
        self.height = self._bars_top + TEXT_ROW + num_bars * BAR_ROW + MARGIN
        longest = max(self._length(name, BAR_SIZE) for name in names)
        self._name_width = min(longest, INNER * 0.5) + 8
        self._label_width = self._length(widest, BAR_SIZE) + 8

    def draw(self, moment: Moment) -> Image.Image:
        """Return the panel [height, WIDTH] of a moment."""
        image = Image.new("RGB", (WIDTH, self.height), BACKGROUND)
        draw = ImageDraw.Draw(image)
        self._write(draw, MARGIN, MARGIN, self._title, TITLE_SIZE, self._accent)
        told = f"return {number(moment.return_so_far)}"
        self._write(draw, MARGIN, MARGIN + TITLE_ROW, told, TEXT_SIZE, TEXT)
        step = f"step {moment.step:,}"
        right = WIDTH - MARGIN - self._length(step, TEXT_SIZE)
        self._write(draw, right, MARGIN + TITLE_ROW, step, TEXT_SIZE, FAINT)
        self._draw_screen(image, moment)
        self._write(draw, MARGIN, self._bars_top, self._caption, BAR_SIZE, FAINT)
        for row, bar in enumerate(moment.bars):
            self._draw_bar(draw, self._bars_top + TEXT_ROW + row * BAR_ROW, bar)
        return image

    def _draw_screen(self, image: Image.Image, moment: Moment) -> None:
        width, height = self._screen_size
        left, top = (WIDTH - width) // 2, MARGIN + TITLE_ROW + TEXT_ROW
        grows = width >= moment.screen.shape[1]
        method = Image.Resampling.NEAREST if grows else Image.Resampling.BILINEAR
        image.paste(Image.fromarray(moment.screen).resize((width, height), method), (left, top))
        if moment.state == "playing":
            return
        draw = ImageDraw.Draw(image)
        bottom = top + height
        draw.rectangle((MARGIN, bottom - TITLE_ROW, WIDTH - MARGIN - 1, bottom - 1), self._accent)
        so_far = " so far" if moment.state == "cut" else ""
        text = f"{moment.state}: return {number(moment.return_so_far)}{so_far}"
        self._write(draw, MARGIN + 8, bottom - TITLE_ROW + 4, text, TEXT_SIZE, BACKGROUND)

    def _draw_bar(self, draw: ImageDraw.ImageDraw, top: int, bar: Bar) -> None:
        name = self._fitted(bar.name, BAR_SIZE, self._name_width - 8)
        self._write(draw, MARGIN, top, name, BAR_SIZE, TEXT if bar.is_taken else FAINT)
        left = MARGIN + self._name_width
        width = WIDTH - MARGIN - self._label_width - left
        rows = (top + 5, top + BAR_ROW - 6)
        draw.rectangle((left, rows[0], left + width, rows[1]), TRACK)
        if bar.end > bar.start:
            ends = (left + bar.start * width, left + bar.end * width)
            colour = self._accent if bar.is_taken else IDLE
            draw.rectangle((ends[0], rows[0], ends[1], rows[1]), colour)
        right = WIDTH - MARGIN - self._length(bar.label, BAR_SIZE)
        self._write(draw, right, top, bar.label, BAR_SIZE, TEXT if bar.is_taken else FAINT)

    def _write(
        self, draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, colour: str
    ) -> None:
        draw.text((x, y), text, font=self._fonts[size], fill=colour)

    def _length(self, text: str, size: int) -> float:
        return self._fonts[size].getlength(text)

    def _fitted(self, text: str, size: int, width: float) -> str:
        """Return `text`, without its last letters where it is longer than `width`."""
        if self._length(text, size) <= width:
            return text
        while text and self._length(f"{text}...", size) > width:
            text = text[:-1]
        return f"{text}..."


def beside(panels: list[Image.Image]) -> npt.NDArray[np.uint8]:
    """Return panels side by side [H, W, 3]; H and W are even, as videos need it."""
    height = max(panel.height for panel in panels)
    frame = Image.new("RGB", (WIDTH * len(panels), height + height % 2), BACKGROUND)
    for place, panel in enumerate(panels):
        frame.paste(panel, (place * WIDTH, 0))
    return np.asarray(frame)


def number(value: float) -> str:
    """Return a return as people read it."""
    value += 0.0  # which makes -0 a 0
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _fitted_size(height: int, width: int) -> tuple[int, int]:
    """Return width and height of a screen that fits; small ones grow by whole numbers."""
    scale = min(INNER / width, SCREEN_HEIGHT / height)
    scale = float(int(scale)) if scale >= 1.0 else scale
    return max(1, round(width * scale)), max(1, round(height * scale))
