"""Draw the icons of the extension and the module, and the picture of the sample data.

    python Resources/Icons/draw.py

One marked slice, and three that get their marks from it.
"""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path as Curve

ROOT = Path(__file__).resolve().parents[2]
ICONS = ROOT / "SSLFewShot" / "Resources" / "Icons"

# Middle tones, which stand out from Slicer's light and dark themes alike.
SLICE, MARK, OUTLINE = "#1b8a9a", "#ffb347", "#5f9fb0"


def _sheet(middle: float) -> np.ndarray:
    """A slice seen from the side and above: four corners around a height."""
    return np.array([[0.06, middle - 0.07], [0.34, middle + 0.13], [0.94, middle + 0.07], [0.66, middle - 0.13]])


def _organ(middle: float) -> Curve:
    """A kidney-like outline lying on that slice."""
    angle = np.linspace(0, 2 * np.pi, 90)
    radius = 1 - 0.32 * np.exp(-(((angle - 1.9) / 0.55) ** 2))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return Curve(np.stack([0.5 + 0.2 * x + 0.055 * y, middle + 0.068 * y - 0.012 * x], axis=1), closed=True)


def draw_icon(path: Path, pixels: int = 128) -> None:
    """Write the icon as a PNG with a transparent ground."""
    figure = plt.figure(figsize=(1, 1), dpi=pixels)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    width = 72 / 128
    for middle in (0.15, 0.36, 0.57):
        axes.add_patch(Polygon(_sheet(middle), fc="none", ec=OUTLINE, lw=4.5 * width, joinstyle="round"))
        axes.add_patch(PathPatch(_organ(middle), fc="none", ec=MARK, lw=4 * width))
    axes.add_patch(Polygon(_sheet(0.83), fc=SLICE, ec=SLICE, lw=5 * width, joinstyle="round"))
    axes.add_patch(PathPatch(_organ(0.83), fc=MARK, ec=MARK, lw=2 * width))
    figure.savefig(path, transparent=True, metadata={"Software": None})
    plt.close(figure)


def draw_sample(path: Path) -> None:
    """Write the thumbnail of the sample data: a coronal slice of the marked phantom and of the other one."""
    from SSLFewShotLib.imaging.phantoms import phantom

    figure, axes = plt.subplots(2, 1, figsize=(2.6, 2.8), dpi=100, facecolor="black")
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, hspace=0.02)
    for number, panel in enumerate(axes):
        volume, labels = phantom((2026, number), size=(192, 160, 144))
        middle = 74
        extent = (0, 400, 0, 360)
        panel.imshow(volume.array[:, middle], cmap="gray", vmin=-200, vmax=300, origin="lower", extent=extent)
        for segment in labels.segments if number == 0 else []:
            mask = labels.mask(segment)[:, middle]
            if mask.any():
                panel.contourf(mask, levels=[0.5, 1], colors=[segment.colour], alpha=0.75, extent=extent)
        panel.set(xlim=(20, 380), ylim=(70, 270))
        panel.axis("off")
    figure.savefig(path, facecolor="black", metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    draw_icon(ROOT / "Resources" / "Icons" / "SSLFewShot.png")
    draw_icon(ICONS / "SSLFewShot.png")
    draw_sample(ICONS / "SSLFewShotSample.png")
