"""`JobDisplay`: the job of a section as its user sees it: a bar, what is being done, how long it takes, Cancel."""

from SSLFewShotSlicer.durations import in_words
from SSLFewShotSlicer.jobs import CANCELLED, DONE, FAILED
from SSLFewShotSlicer.section import show_widget
from SSLFewShotSlicer.translation import _


class JobDisplay:
    """Runs one job of a section at a time and shows it; a new one cancels the one before.

    bar, status: the widgets; cancel_button: None where another button cancels.
    """

    def __init__(self, section, bar, status, cancel_button=None):
        self.job = None
        self._section = section
        self._bar, self._status, self._cancel_button = bar, status, cancel_button
        if cancel_button is not None:
            cancel_button.connect("clicked(bool)", lambda _checked: self.cancel())

    @property
    def running(self):
        """Whether the job runs."""
        return self.job is not None and not self.job.over

    def run(self, title, steps, done, cancelled="", changed=None):
        """Start a job; done(job) is called when it has ended well, changed() while it runs.

        cancelled: what to say when it was cancelled.
        """
        section = self._section

        def observe(job):
            if section.closed or job is not self.job:
                return
            self.show()
            if not job.over:
                if changed is not None:
                    changed()
                return
            if job.state == DONE:
                done(job)
            elif job.state == FAILED:
                section.message.error(job.sentence)
            elif job.state == CANCELLED:
                section.message.information(cancelled or _("Cancelled"))
            section.panel.refresh()

        section.message.clear()
        self.cancel()
        self.job = section.session.run(title, steps)
        section.panel.watch(self.job, observe)
        self.show()

    def cancel(self):
        """Stop the job."""
        if self.running:
            self.job.cancel()

    def forget(self):
        """Let go of the job: its scene is closed."""
        self.job = None
        self.show()

    def show(self):
        """Show how far the job is, or nothing when none runs."""
        running = self.running
        for widget in (self._bar, self._status, self._cancel_button):
            if widget is not None:
                show_widget(widget, running)
        if running:
            job = self.job
            left = _(", about {time} left").format(time=in_words(job.remaining)) if job.remaining else ""
            self._bar.value = int(1000 * job.fraction)
            self._status.text = f"{job.message[:1].upper()}{job.message[1:]}{left}"
