"""The section "Find and crop": where in a scan the marked structures, or its one object, lie; cutting it out."""

import qt
import slicer

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer import cropping, views
from SSLFewShotSlicer.bridge import hide_box, show_handles
from SSLFewShotSlicer.durations import in_words
from SSLFewShotSlicer.job_display import JobDisplay
from SSLFewShotSlicer.localising import KINDS, METHODS, LocaliseRequest, localising
from SSLFewShotSlicer.parameters import supports_of, targets_of
from SSLFewShotSlicer.section import Section, show_entries, show_widget
from SSLFewShotSlicer.translation import _

TARGET_LINK = "target"
UNSURE = 0.5
"""Certainty below which the user is warned."""


class LocaliseSection(Section):
    """Finds boxes and crops to them; `located`: what was found last."""

    form = "Localise"
    message_label = "localiseMessage"

    def set_up(self):
        ui = self.ui
        self.located = []
        self._cropped = []
        self._filling = False
        self._observed = None
        self.display = JobDisplay(self, ui.localiseProgress, ui.localiseStatus, ui.localiseCancelButton)
        ui.localiseMethodSelector.connect("currentIndexChanged(int)", self._on_method)
        ui.localiseEachSelector.connect("currentIndexChanged(int)", self._on_each)
        ui.localiseButton.connect("clicked(bool)", lambda _checked: self.localise())
        ui.cropButton.connect("clicked(bool)", lambda _checked: self.crop())
        ui.searchBoxButton.connect("clicked(bool)", lambda _checked: self.search_only_there())
        ui.localiseMessage.connect("linkActivated(QString)", self._on_link)

    def refresh(self):
        parameters, ui = self.parameters, self.ui
        offered = "localise" in (self.session.info or {"methods": ["localise"]})["methods"]
        show_widget(ui.localiseSection, offered)
        self._fill_methods()
        self._show_each()
        targets = targets_of(parameters)
        ui.localiseTargets.text = ", ".join(volume.GetName() for volume in targets) or _("choose it in Segment")
        self._observe(parameters.box)
        self.offer(ui.localiseButton, self.ready())
        none = "" if parameters.box is not None else _("Find or draw a box first")
        for button in (ui.cropButton, ui.searchBoxButton):
            missing = none or ("" if targets else _("Choose the scan to crop in Segment first"))
            button.enabled = not (missing or self.display.running)
        self._show_savings()

    def scene_closing(self):
        super().scene_closing()
        self.display.forget()
        self.located = []
        self._cropped = []
        self._observed = None
        self.ui.localisePlot.hide()

    @property
    def job(self):
        """The last job of this section, or None."""
        return self.display.job

    def ready(self):
        """What is missing before a box can be looked for, as a sentence; "" when nothing is."""
        if self.display.running:
            return _("Something is being computed already; wait for it, or cancel it")
        if self.parameters.localise_method == "support":
            if not supports_of(self.parameters):
                return _("Choose a marked scan and its segmentation first")
            if not self.panel.support.ticked_names():
                return _("Mark or tick at least one structure first")
        return "" if targets_of(self.parameters) else _("Choose the scan in Segment first")

    def localise(self):
        """Look for the box in every scan that is chosen in Segment."""
        parameters = self.parameters
        try:
            request = LocaliseRequest(
                targets_of(parameters),
                supports_of(parameters),
                self.panel.support.ticked_names(),
                parameters.localise_method,
                margin=None if parameters.localise_margin < 0 else parameters.localise_margin,
                device=self.panel.device(),
                each=self._each(),
            )
        except InputError as error:
            self.message.error(str(error))
            return
        steps = localising(self.session, self.session.support_files, request)
        self.display.run(_("finding the box"), steps, self._take)
        self.panel.refresh()

    def crop(self):
        """Cut every chosen scan down to its box: the one that was found in it, of the structure whose box is
        chosen where each has its own; or the one that is chosen."""
        try:
            steps = cropping.cropping(self._pairs())
        except InputError as error:
            self.message.error(str(error))
            return
        self.display.run(_("cropping"), steps, self._take_cropped)

    def search_only_there(self):
        """Have only the box searched by Apply."""
        self.parameters.roi = self.parameters.box
        self.message.success(_("Apply searches only within {box}").format(box=self.parameters.box.GetName()))

    def _each(self):
        return self.parameters.localise_each and self.parameters.localise_method == "support"

    def _found_boxes(self):
        """The boxes that were found last and are still there."""
        nodes = [slicer.mrmlScene.GetNodeByID(box_id) for one in self.located for box_id in _boxes(one).values()]
        return [node for node in nodes if node is not None]

    def _pairs(self):
        """[(volume, box)] to be cropped."""
        chosen = self.parameters.box
        found = {}
        for one in self.located:
            for structure, box_id in _boxes(one).items():
                found.setdefault(structure, {})[one.target_id] = slicer.mrmlScene.GetNodeByID(box_id)
        # Boxes of the same structure as the chosen one.
        alike = next((boxes for boxes in found.values() if chosen in boxes.values()), {})
        return [(volume, alike.get(volume.GetID()) or chosen) for volume in targets_of(self.parameters)]

    def _take(self, job):
        for box in self._found_boxes():
            hide_box(box)  # of the last time: it may lie where a new one does
        self.located = job.result
        first = next((one for one in self.located if _boxes(one)), None)
        if first is not None:
            self.parameters.box = slicer.mrmlScene.GetNodeByID(next(iter(_boxes(first).values())))
            self._reveal(first)
        self._tell(job)
        self._show_plot()

    def _tell(self, job):
        sentences = [
            _("{scan}: {reason}").format(scan=one.target_name, reason=one.reason)
            for one in self.located
            if one.reason
        ]
        sentences += [
            _("{structure}: {reason}").format(structure=name, reason=reason)
            for one in self.located
            for name, _certainty, reason in one.segments
            if reason
        ]
        boxes = [one for one in self.located if _boxes(one)]
        if not boxes:
            self.message.warning(_("No box was found"), sentences + job.warnings)
            return
        told = ", ".join(_certainty_in_words(one) for one in boxes)
        text = _("Found in {scans}, in {time}").format(scans=told, time=in_words(boxes[0].seconds))
        unsure = ", ".join(filter(None, map(_unsure, boxes)))
        if unsure:
            sentences.append(_("Look at the box in {scans}, and move its faces").format(scans=unsure))
        sentences += job.warnings
        if sentences:
            self.message.warning(text, sentences)
        else:
            self.message.success(text)

    def _take_cropped(self, job):
        self._cropped = list(job.result)
        nodes = [slicer.mrmlScene.GetNodeByID(node_id) for node_id in self._cropped]
        views.show_scan(nodes[0])
        self.message.success(
            _("{scans} added, with the original voxels").format(scans=", ".join(node.GetName() for node in nodes)),
            answers=[(TARGET_LINK, _("Segment that"))],
        )

    def _on_link(self, link):
        nodes = [slicer.mrmlScene.GetNodeByID(node_id) for node_id in self._cropped]
        nodes = [node for node in nodes if node is not None]
        if link != TARGET_LINK or not nodes:
            return
        modifying = self.parameters.StartModify()
        self.parameters.target_volume = nodes[0]
        self.parameters.more_targets = nodes[1:]
        self.parameters.roi = None
        self.parameters.EndModify(modifying)
        self.message.clear()

    def _show_savings(self):
        chosen, targets = self.parameters.box, targets_of(self.parameters)
        text = ""
        if chosen is not None and targets:
            try:
                volume, box = self._pairs()[0]
                text = cropping.savings_in_words(volume, box)
            except InputError as error:
                text = str(error)
        self.ui.localiseSavings.text = text
        show_widget(self.ui.localiseSavings, bool(text))

    def _show_plot(self):
        label = self.ui.localisePlot
        plot = next((one.plot for one in self.located if one.plot), None)
        picture = qt.QPixmap()
        if plot is not None and picture.loadFromData(plot):
            label.setPixmap(
                picture.scaledToWidth(max(240, label.parentWidget().width - 12), qt.Qt.SmoothTransformation)
            )
        label.visible = plot is not None

    def _reveal(self, one):
        """Show the scan with its box."""
        volume = slicer.mrmlScene.GetNodeByID(one.target_id)
        views.show_scan(volume)
        views.show_marks(self.parameters.support_segmentation, False)
        centre = [0.0, 0.0, 0.0]
        self.parameters.box.GetCenterWorld(centre)
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *centre)

    def _fill_methods(self):
        chosen = self.parameters.localise_method
        kinds = {card.get("method") for card in self.panel.models.cards}
        offered = [
            (name, _(title))
            for name, title in METHODS.items()
            if name not in KINDS or name == chosen or kinds.intersection(KINDS[name])
        ]
        self._filling = True
        show_entries(self.ui.localiseMethodSelector, offered, chosen)
        self._filling = False

    def _on_method(self, _index):
        if not self._filling and self.parameters is not None:
            self.parameters.localise_method = str(self.ui.localiseMethodSelector.currentData or "support")

    def _show_each(self):
        ui = self.ui
        self._filling = True
        ui.localiseEachSelector.currentIndex = 1 if self.parameters.localise_each else 0
        self._filling = False
        for widget in (ui.localiseEachLabel, ui.localiseEachSelector):
            show_widget(widget, self.parameters.localise_method == "support")
        ui.localiseButton.text = _("Find the boxes") if self._each() else _("Find the box")

    def _on_each(self, index):
        if not self._filling and self.parameters is not None:
            self.parameters.localise_each = index == 1

    def _observe(self, box):
        """Follow the handles of the box."""
        if box is self._observed:
            return
        self.removeObservers()
        self._observed = box
        # Of many, only the chosen one has handles.
        for found in self._found_boxes():
            show_handles(found, found is box)
        if box is not None:
            self.addObserver(box, slicer.vtkMRMLMarkupsNode.PointModifiedEvent, self._on_box_moved)

    def _on_box_moved(self, _caller, _event):
        if not self.closed and self.parameters is not None:
            self.panel.refresh_soon()


def _boxes(located):
    """{structure: ID of its box} of a scan that was looked through; "" stands for all structures together."""
    return located.boxes if located.box_id is None else {"": located.box_id}


def _certainty_in_words(located):
    if located.box_id is not None:
        return _("{scan} with a certainty of {percent:.0f} %").format(
            scan=located.target_name, percent=100 * located.certainty
        )
    told = [
        _("{structure} {percent:.0f}\u00a0%").format(structure=name, percent=100 * certainty)
        for name, certainty, _reason in located.segments
        if name in located.boxes
    ]
    return _("{scan} with certainties of {structures}").format(
        scan=located.target_name, structures=", ".join(told)
    )


def _unsure(located):
    """The scan's name where a box is to be looked at, with the structures that it is about; else ""."""
    if located.box_id is not None:
        return located.target_name if located.certainty < UNSURE else ""
    names = [name for name, certainty, _reason in located.segments if name in located.boxes and certainty < UNSURE]
    return f"{located.target_name} ({', '.join(names)})" if names else ""
