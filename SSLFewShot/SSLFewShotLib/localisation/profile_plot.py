"""What was measured slice by slice, as a picture: the paper's figure 3, for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from SSLFewShotLib.localisation.localiser import Profile
from SSLFewShotLib.outputs import written_atomically

_NAMES = {"L": "right to left", "P": "front to back", "S": "foot to head"}


def draw_profiles(profiles: Sequence[Profile], path: Path, title: str) -> None:
    """Draw each axis's values over mm, with the threshold and the box's edges, to a PNG file."""
    # Here and not at the top: a localisation without profiles should not pay for it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.6 + 1.9 * len(profiles)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, profile in zip(figure.subplots(len(profiles), squeeze=False)[:, 0], profiles, strict=True):
        axes.plot(profile.positions, profile.values, color="tab:blue", linewidth=1.2)
        axes.axhline(profile.threshold, color="0.5", linewidth=0.8, linestyle=":")
        for edge in profile.edges or ():
            axes.axvline(edge, color="tab:red", linewidth=1.2, linestyle="--")
        axes.set(xlabel=f"{_NAMES.get(profile.axis, profile.axis)}, mm", ylabel=profile.what, ylim=(-0.02, 1.02))
        axes.yaxis.label.set_size(7)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)
