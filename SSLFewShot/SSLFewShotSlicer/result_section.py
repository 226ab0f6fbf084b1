"""What is done with a result: accepted as a marked scan, corrected, taken back, looked at."""

import slicer

from SSLFewShotSlicer import views
from SSLFewShotSlicer.bridge import hide_confidence, show_confidence, surfaces_made
from SSLFewShotSlicer.durations import in_words
from SSLFewShotSlicer.jobs import in_turns
from SSLFewShotSlicer.section import PanelPart, show_widget
from SSLFewShotSlicer.translation import _


class ResultSection(PanelPart):
    """The part of the section "Segment" below Apply. results: `Segmented`, a scan each; none before Apply."""

    def __init__(self, panel, message):
        super().__init__(panel)
        self.message = message
        self.results = []
        ui = self.ui
        ui.acceptButton.connect("clicked(bool)", lambda _checked: self.accept())
        ui.editResultButton.connect("clicked(bool)", lambda _checked: self.correct())
        ui.undoButton.connect("clicked(bool)", lambda _checked: self.undo())
        ui.confidenceCheck.connect("toggled(bool)", self.show_confidence)
        ui.show3DCheck.connect("toggled(bool)", self.show_surfaces)

    def forget(self):
        """Let go of the results: their scene is closed."""
        self.results = []

    def take(self, job):
        """Take the results of a job that is done, say so, and show the first."""
        if isinstance(job.result, dict):
            self._tell_folder(job)
            return
        self.results = job.result
        first = self.results[0]
        found = [name for name in first.placed.segment_ids if name not in first.placed.empty]
        if len(self.results) == 1:
            named = _("{number} structures").format(number=len(found)) if len(found) > 3 else ", ".join(found)
            text = _("{structures} found in {scan} in {time}").format(
                structures=named or _("Nothing"), scan=first.target_name, time=in_words(first.seconds)
            )
        else:
            text = _("{number} scans segmented in {time}").format(
                number=len(self.results), time=in_words(sum(done.seconds for done in self.results))
            )
        if job.warnings:
            self.message.warning(text, job.warnings)
        else:
            self.message.success(text)
        self._reveal(first)

    def refresh(self, running):
        """Show the buttons while there is a result; not while the next one is on its way."""
        self.results = [
            done for done in self.results if slicer.mrmlScene.GetNodeByID(done.placed.segmentation_id) is not None
        ]
        show_widget(self.ui.resultFrame, bool(self.results) and not running)
        self.ui.confidenceCheck.enabled = any(done.placed.confidence_id for done in self.results)

    def hide_views(self):
        """Take confidence and surfaces away."""
        self.ui.confidenceCheck.checked = False
        self.ui.show3DCheck.checked = False

    def accept(self):
        """Make the results, corrected or not, further marked scans."""
        added = []
        for done in self.results:
            volume = slicer.mrmlScene.GetNodeByID(done.target_id)
            segmentation = slicer.mrmlScene.GetNodeByID(done.placed.segmentation_id)
            if volume is None or segmentation is None:
                continue
            if self.panel.support.add(volume, segmentation):
                added.append(volume.GetName())
        parameters = self.parameters
        self.hide_views()
        self.results = []
        modifying = parameters.StartModify()
        parameters.target_volume = None
        parameters.more_targets = []
        parameters.result_segmentation = None
        parameters.EndModify(modifying)
        self.ui.moreSupportsGroup.collapsed = False
        if added:
            self.message.success(
                _("{scans} is a marked scan now; choose the next scan to segment").format(scans=", ".join(added))
            )
        else:
            self.message.warning(_("The result is no longer in the scene, so there is nothing to add"))
        self.panel.refresh()

    def correct(self):
        """Open the Segment Editor on the first result."""
        for done in self.results[:1]:
            volume = slicer.mrmlScene.GetNodeByID(done.target_id)
            segmentation = slicer.mrmlScene.GetNodeByID(done.placed.segmentation_id)
            if volume is not None and segmentation is not None:
                self.panel.support.edit(segmentation, volume)
            else:
                self.message.warning(_("The result is no longer in the scene"))

    def undo(self):
        """Take the results out of the scene again."""
        self.hide_views()
        with slicer.util.RenderBlocker():
            for done in reversed(self.results):
                done.placed.undo()
        self.results = []
        self.message.information(_("The result was taken back; the scene is as before"))
        self.panel.refresh()

    def show_confidence(self, shown):
        """Lay the confidence over the slices, or take it away."""
        for done in self.results[:1]:
            node_id = done.placed.confidence_id
            if node_id and slicer.mrmlScene.GetNodeByID(node_id) is not None:
                (show_confidence if shown else hide_confidence)(node_id)

    def show_surfaces(self, shown):
        """Show the surfaces of the results in 3D, or no longer."""
        nodes = [slicer.mrmlScene.GetNodeByID(done.placed.segmentation_id) for done in self.results]
        nodes = [node for node in nodes if node is not None and node.GetDisplayNode() is not None]

        def steps(job):
            for node in nodes:
                yield from in_turns(surfaces_made(node))
                # The user may have taken the tick away again, or the node.
                if self.ui.show3DCheck.checked and slicer.mrmlScene.IsNodePresent(node):
                    node.GetDisplayNode().SetVisibility3D(True)

        if shown:
            self.session.run(_("making surfaces"), steps)
        else:
            for node in nodes:
                node.GetDisplayNode().SetVisibility3D(False)

    def _tell_folder(self, job):
        summary = job.result.get("summary", {})
        failed = [entry for entry in job.result.get("targets", []) if "error" in entry]
        text = _("{done} of {all} scans segmented; the results are in {folder}").format(
            done=len(job.result.get("targets", [])) - len(failed),
            all=len(job.result.get("targets", [])) or summary.get("scans", 0),
            folder=self.parameters.output_folder,
        )
        sentences = [str(entry["error"]) for entry in failed[:5]] + job.warnings
        if sentences:
            self.message.warning(text, sentences)
        else:
            self.message.success(text)

    def _reveal(self, done):
        """Show the scan that was segmented, with its result."""
        volume = slicer.mrmlScene.GetNodeByID(done.target_id)
        marked = self.parameters.support_segmentation
        with slicer.util.RenderBlocker():
            if volume is not None:
                slicer.util.setSliceViewerLayers(background=volume, foreground=None, fit=True)
            views.show_marks(marked, False)
