"""The loss of a training over its iterations, drawn with Qt alone: the application has no matplotlib."""

import math

import qt

from SSLFewShotSlicer.translation import _

_NOT_METRICS = ("iteration", "minutes", "loss", "learning_rate")
_MOST_POINTS = 400
_LOSS = (52, 120, 200)
_METRIC = (214, 137, 16)


def draw_loss(rows, width, height, font, ratio=1.0):
    """A picture of the loss and, beside it, the task's control metric.

    rows: [{"iteration", "loss", …, metric}]; width, height: points; font: of the widget that shows it;
    ratio: pixels a point. Returns a `QPixmap` on
    which nothing depends on whether the application is light or dark.
    """
    pixmap = qt.QPixmap(int(width * ratio), int(height * ratio))
    pixmap.setDevicePixelRatio(ratio)
    pixmap.fill(qt.QColor(0, 0, 0, 0))
    painter = qt.QPainter(pixmap)
    try:
        painter.setFont(font)
        painter.setRenderHint(qt.QPainter.Antialiasing, True)
        _Picture(painter, width, height, font).draw(rows)
    finally:
        painter.end()
    return pixmap


class _Picture:
    def __init__(self, painter, width, height, font):
        self.painter = painter
        self.text = qt.QColor(128, 128, 128)
        self.faint = qt.QColor(128, 128, 128, 60)
        self.line = qt.QFontMetrics(font).height()
        self.left, self.right = 52, int(width) - 52
        self.top, self.bottom = self.line + 12, int(height) - self.line - 10
        self.width, self.height = int(width), int(height)

    def draw(self, rows):
        rows = [row for row in rows if _finite(row.get("loss")) and _finite(row.get("iteration"))]
        if len(rows) < 2:
            self._write(
                0, 0, self.width, self.height, qt.Qt.AlignCenter, _("The first losses are being measured…")
            )
            return
        last = max(row["iteration"] for row in rows)
        self._frame(last)
        self._curve(rows, "loss", _("loss"), _LOSS, False, last)
        metric = next((name for name in rows[-1] if name not in _NOT_METRICS and _finite(rows[-1][name])), None)
        if metric is not None:
            self._curve(rows, metric, metric.replace("_", " "), _METRIC, True, last)

    def _frame(self, last):
        for tick in (tick for tick in _ticks(0, last) if tick <= last):
            x = self._x(tick, last)
            self._line(x, self.top, x, self.bottom, self.faint)
            self._write(x - 40, self.bottom + 2, 80, self.line, qt.Qt.AlignHCenter, _short(tick))
        self._line(self.left, self.bottom, self.right, self.bottom, self.text)

    def _curve(self, rows, key, title, colour, on_the_right, last):
        points = [(row["iteration"], row[key]) for row in rows if _finite(row.get(key))]
        points = _thinned(points)
        low, high = min(y for _x, y in points), max(y for _x, y in points)
        ticks = _ticks(low, high)
        low, high = min(low, ticks[0]), max(high, ticks[-1])
        pen_colour = qt.QColor(*colour)

        def y_of(value):
            return self.bottom - (value - low) / ((high - low) or 1) * (self.bottom - self.top)

        for tick in ticks:
            y = int(y_of(tick) - self.line / 2)
            if on_the_right:
                self._write(self.right + 4, y, 48, self.line, qt.Qt.AlignLeft, _short(tick), pen_colour)
            else:
                self._line(self.left, y_of(tick), self.right, y_of(tick), self.faint)
                self._write(0, y, self.left - 5, self.line, qt.Qt.AlignRight, _short(tick), pen_colour)
        pen = qt.QPen(pen_colour)
        pen.setWidthF(1.6)
        self.painter.setPen(pen)
        placed = [(self._x(x, last), y_of(y)) for x, y in points]
        for (x, y), (next_x, next_y) in zip(placed, placed[1:]):
            self.painter.drawLine(qt.QPointF(x, y), qt.QPointF(next_x, next_y))
        align = qt.Qt.AlignRight if on_the_right else qt.Qt.AlignLeft
        self._write(6, 3, self.width - 12, self.line, align, title, pen_colour)

    def _x(self, iteration, last):
        return self.left + iteration / (last or 1) * (self.right - self.left)

    def _line(self, x, y, to_x, to_y, colour):
        self.painter.setPen(qt.QPen(colour))
        self.painter.drawLine(qt.QPointF(x, y), qt.QPointF(to_x, to_y))

    def _write(self, x, y, width, height, align, text, colour=None):
        self.painter.setPen(qt.QPen(colour or self.text))
        self.painter.drawText(int(x), int(y), int(width), int(height), int(align), text)


def _finite(value):
    return isinstance(value, (int, float)) and math.isfinite(value)


def _thinned(points):
    """At most so many points, each the mean of its neighbours: a noisy curve stays readable."""
    if len(points) <= _MOST_POINTS:
        return points
    size = -(-len(points) // _MOST_POINTS)
    groups = [points[n : n + size] for n in range(0, len(points), size)]
    return [tuple(sum(values) / len(group) for values in zip(*group)) for group in groups]


def _ticks(low, high):
    """About four round numbers from below `low` to above `high`."""
    span = (high - low) or abs(high) or 1.0
    rough = span / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.floor(low / step)
    count = math.ceil(high / step - 1e-9) - first
    return [round((first + n) * step, 10) for n in range(count + 1)]


def _short(number):
    if abs(number) >= 10_000:
        return f"{number / 1000:g} k"
    return f"{number:g}"
