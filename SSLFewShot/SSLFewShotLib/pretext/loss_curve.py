"""The loss over a training, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from SSLFewShotLib.outputs import written_atomically


def draw_loss_curve(rows: Sequence[dict[str, float]], path: Path, title: str) -> None:
    """Draw loss and control metric over iterations to a PNG file.

    rows: what `Training.rows` holds: iteration, loss, learning_rate and the task's metrics.
    """
    # Here and not at the top: a training that draws nothing should not pay for it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = [name for name in rows[0] if name not in ("iteration", "minutes", "loss", "learning_rate")]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    iterations = [row["iteration"] for row in rows]
    axes.plot(iterations, [row["loss"] for row in rows], color="tab:blue", linewidth=1)
    axes.set(xlabel="iteration", ylabel="loss", title=title)
    axes.yaxis.label.set_color("tab:blue")
    axes.grid(alpha=0.3)
    if metrics:
        right = axes.twinx()
        right.plot(iterations, [row[metrics[0]] for row in rows], color="tab:orange", linewidth=1)
        right.set_ylabel(metrics[0].replace("_", " "), color="tab:orange")
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)
