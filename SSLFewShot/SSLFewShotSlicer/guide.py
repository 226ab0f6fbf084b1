"""The first lines of the panel: which steps are done, and what to do next."""

from collections import namedtuple

from SSLFewShotSlicer.translation import _

Situation = namedtuple(
    "Situation",
    "packages_missing supports structures support_volume support_segmentation targets running finished folder",
    defaults=(False, 0, 0, None, None, 0, False, False, False),
)
"""What the guide goes by.

packages_missing: names, or () when all is installed; supports, structures: how many marked scans and ticked
structures; support_volume, support_segmentation: whether chosen; targets: how many; running, finished: the
segmenting; folder: whether targets are a folder on disk.
"""

SAMPLE_LINK = "sample"


def steps(situation):
    """[(title, done, current)] of the four steps."""
    titles = [_("Install"), _("Marked scan"), _("Scan to segment"), _("Apply")]
    ready = [
        not situation.packages_missing,
        bool(situation.supports and situation.structures),
        bool(situation.targets),
        situation.finished and not situation.running,
    ]
    current = next((n for n, done in enumerate(ready) if not done), None)
    return [(title, done, n == current) for n, (title, done) in enumerate(zip(titles, ready))]


def next_step(situation):
    """What to do next: one sentence as HTML."""
    if situation.packages_missing:
        return _(
            "<b>Next:</b> open <i>Setup</i> and click <i>Install what is missing</i>. It is needed only once."
        )
    if situation.running:
        return _("It is being computed in the background; you can go on working in Slicer meanwhile.")
    if not situation.support_volume:
        return _(
            "<b>Next:</b> choose the scan that you have marked. None at hand? "
            '<a href="{link}">Try it on a sample</a>.'
        ).format(link=SAMPLE_LINK)
    if not situation.support_segmentation:
        return _("<b>Next:</b> choose its segmentation, or click <i>Edit…</i> to mark the structures now.")
    if not situation.structures:
        return _("<b>Next:</b> mark at least one structure: click <i>Edit…</i>, or tick a segment in the list.")
    if not situation.targets:
        if situation.folder:
            return _("<b>Next:</b> choose the folder with the scans, and one for the results.")
        return _("<b>Next:</b> choose the scan to segment, in <i>Segment</i>.")
    if situation.finished:
        return _(
            "Done. Look at the result and correct it: <i>Accept and add to support</i> makes the next ones better."
        )
    return _("<b>Next:</b> click <i>Apply</i>.")


def steps_html(situation):
    """The steps as one line of HTML: done ones ticked, the current one bold."""
    shown = []
    for number, (title, done, current) in enumerate(steps(situation), start=1):
        if done:
            shown.append(f'<span style="color:rgb(56,158,100)">✓&nbsp;{title}</span>')
        elif current:
            shown.append(f"<b>{number}&nbsp;{title}</b>")
        else:
            shown.append(f'<span style="color:rgb(128,128,128)">{number}&nbsp;{title}</span>')
    return '<span style="color:rgb(128,128,128)">&nbsp; ›&nbsp; </span>'.join(shown)
