"""The section "Segment": Apply, and how far it is."""

from functools import partial

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer.bridge import list_segments
from SSLFewShotSlicer.job_display import JobDisplay
from SSLFewShotSlicer.method_choice import MethodChoice
from SSLFewShotSlicer.parameters import folder_of, supports_of, targets_of
from SSLFewShotSlicer.result_section import ResultSection
from SSLFewShotSlicer.section import Section
from SSLFewShotSlicer.segmenting import SegmentRequest, folder_batch, segmenting
from SSLFewShotSlicer.target_choice import TargetChoice
from SSLFewShotSlicer.translation import _

REPLACE_LINK, KEEP_LINK = "replace", "keep"


class SegmentSection(Section):
    """Runs the segmenting; `targets` and `methods` hold its choices, `result` shows what comes of it."""

    form = "Segment"
    message_label = "segmentMessage"

    def set_up(self):
        ui = self.ui
        self.display = JobDisplay(self, ui.segmentProgress, ui.segmentStatus)
        self.targets = TargetChoice(self)
        self.methods = MethodChoice(self.panel)
        self.result = ResultSection(self.panel, self.message)
        ui.applyButton.connect("clicked(bool)", lambda _checked: self.apply_or_cancel())
        ui.segmentMessage.connect("linkActivated(QString)", self._on_link)
        self.session.listen(self._on_log)

    def refresh(self):
        self.targets.refresh()
        self.methods.refresh()
        self._show_apply()
        self.result.refresh(self.running)

    def scene_closing(self):
        super().scene_closing()
        self.display.forget()
        self.targets.forget()
        self.result.forget()

    def close(self):
        super().close()
        self.session.stop_listening(self._on_log)

    @property
    def job(self):
        """The last segmenting, or None."""
        return self.display.job

    @property
    def running(self):
        """Whether the segmenting runs."""
        return self.display.running

    @property
    def finished(self):
        """Whether there is a result to look at."""
        return bool(self.result.results)

    def ready(self):
        """What is missing before Apply can be clicked, as a sentence; "" when nothing is."""
        if not supports_of(self.parameters):
            return _("Choose a marked scan and its segmentation first")
        if not self.panel.support.ticked_names():
            return _("Mark or tick at least one structure first")
        return self.targets.ready() or self.methods.ready()

    def apply_or_cancel(self):
        """The one button: starts, and while it runs, cancels."""
        if self.running:
            self.display.cancel()
            self._show_apply()
            return
        self.apply()

    def apply(self, existing=None):
        """Start segmenting; asks in the panel when segments are there already."""
        self.message.clear()
        parameters = self.parameters
        try:
            if parameters.targets_in_folder:
                steps = self._folder_steps()
            else:
                targets = targets_of(parameters)
                into = parameters.result_segmentation if len(targets) == 1 else None
                there = self._already_there(into) if existing is None else []
                request = SegmentRequest(
                    supports_of(parameters),
                    targets,
                    self.panel.support.ticked_names(),
                    roi=parameters.roi,
                    into=into,
                    existing=existing or "rename",
                    method=parameters.method,
                    model=parameters.model,
                    device=self.panel.device(),
                    settings=self.methods.settings(),
                )
                if there:
                    self._ask(into, there)
                    return
                steps = segmenting(self.session, self.session.support_files, request)
        except InputError as error:
            self.message.error(str(error))
            return
        self.result.hide_views()
        # A result that is there stays, to be accepted or taken back, until the next one has come.
        self.display.run(
            _("segmenting"),
            steps,
            partial(self._take, keeps="keep" in self.methods.settings()),
            cancelled=_("Cancelled; nothing was changed"),
            changed=self._show_apply,
        )
        self.panel.refresh()

    def _take(self, job, keeps):
        self.result.take(job)
        if keeps:
            self.panel.models.load()

    def _folder_steps(self):
        parameters = self.parameters
        source, output = folder_of(parameters.input_folder), folder_of(parameters.output_folder)
        if not source.is_dir():
            raise InputError(_("{folder}: is not a folder; choose the one with the scans").format(folder=source))
        if source.resolve() == output.resolve():
            raise InputError(
                _("the results need a folder of their own, not that of the scans; choose another one")
            )
        return folder_batch(
            self.session,
            self.session.support_files,
            supports_of(parameters),
            self.panel.support.ticked_names(),
            source,
            output,
            parameters.method,
            parameters.model,
            self.panel.device(),
            self.methods.settings(),
        )

    def _already_there(self, into):
        if into is None:
            return []
        there = {segment.name for segment in list_segments(into)}
        return [name for name in self.panel.support.ticked_names() if name in there]

    def _ask(self, into, names):
        self.message.question(
            _("{segmentation} has {segments} already").format(
                segmentation=into.GetName(), segments=", ".join(names)
            ),
            [(REPLACE_LINK, _("Replace them")), (KEEP_LINK, _("Keep both"))],
        )

    def _on_link(self, link):
        if link == REPLACE_LINK:
            self.apply("replace")
        elif link == KEEP_LINK:
            self.apply("rename")

    def _show_apply(self):
        button = self.ui.applyButton
        if self.running:
            cancelling = self.job.cancelling.is_set()
            button.text = _("Cancelling…") if cancelling else _("Cancel")
            button.enabled = not cancelling
            button.toolTip = _("Stops; nothing in the scene is changed.")
            return
        button.text = _("Apply")
        self.offer(button, self.ready())

    def _on_log(self, line):
        if not self.closed:
            self.ui.segmentLog.appendPlainText(line)
