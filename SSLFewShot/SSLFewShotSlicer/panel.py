"""`Panel`: the module's panel, put together from its sections, with the guide that says what to do next."""

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from SSLFewShotLib.errors import InputError
from SSLFewShotSlicer import edit_trip, guide, parameters, worker_session
from SSLFewShotSlicer.evaluate_section import EvaluateSection
from SSLFewShotSlicer.localise_section import LocaliseSection
from SSLFewShotSlicer.model_section import ModelSection
from SSLFewShotSlicer.pretrain_section import PretrainSection
from SSLFewShotSlicer.section import load_form
from SSLFewShotSlicer.segment_section import SegmentSection
from SSLFewShotSlicer.setup_section import SetupSection
from SSLFewShotSlicer.suggestion import suggest
from SSLFewShotSlicer.support_section import SupportSection
from SSLFewShotSlicer.translation import _

REFRESH_MS = 30
SECTIONS = (
    SetupSection,
    SupportSection,
    SegmentSection,
    LocaliseSection,
    EvaluateSection,
    ModelSection,
    PretrainSection,
)


class Panel(VTKObservationMixin):
    """Holds the sections together. `root` is the widget; `logic` has the session."""

    def __init__(self, logic):
        VTKObservationMixin.__init__(self)
        self.logic = logic
        self.session = logic.session
        self.parameters = None
        self._untie = None
        self._watched = []
        self._entered = False
        self.usual_tips = {}
        self.root = load_form("SSLFewShot")
        kinds = SECTIONS
        containers = ("setup", "support", "segment", "localise", "evaluate", "model", "pretrain")
        forms = []
        for kind, container in zip(kinds, containers):
            form = load_form(kind.form)
            slicer.util.findChild(self.root, f"{container}Section").layout().addWidget(form)
            forms.append(form)
        self._forms = forms
        self.ui = slicer.util.childWidgetVariables(self.root)
        self._refresh_timer = qt.QTimer()
        self._refresh_timer.setSingleShot(True)
        self._refresh_timer.setInterval(REFRESH_MS)
        self._refresh_timer.connect("timeout()", self.refresh)
        sections = [kind(self) for kind in kinds]
        self.sections = sections
        self.setup, self.support, self.segment, self.localise, self.evaluate, self.models, self.pretrain = sections
        for section in sections:
            section.set_up()
        self.ui.guideText.connect("linkActivated(QString)", self._on_guide_link)
        self._style_guide()

    def set_scene(self, scene):
        """Let the selectors show the nodes of a scene."""
        for widget in [self.root, *self._forms]:
            widget.setMRMLScene(scene)
        self.addObserver(scene, slicer.vtkMRMLScene.NodeAddedEvent, self._on_scene_changed)
        self.addObserver(scene, slicer.vtkMRMLScene.NodeRemovedEvent, self._on_scene_changed)

    def set_parameters(self, chosen):
        """Show these choices, None for none."""
        if self.parameters is not None:
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_choice)
            self._untie()
            self._untie = None
        self.parameters = chosen
        if chosen is not None:
            self._untie = parameters.connect(chosen, self.ui)
            self.addObserver(chosen.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_choice)
            self.refresh()

    def enter(self):
        """The user has come to the module."""
        self._entered = True
        edit_trip.forget()
        if self.parameters is not None:
            suggest(self.parameters)
        self.setup.check()
        self.refresh()
        self.pretrain.watch_trainings(True)

    def leave(self):
        """The user has gone to another module; jobs go on."""
        self._entered = False
        self.pretrain.watch_trainings(False)

    def scene_closing(self):
        """The scene is about to be closed: what was to come into it is dropped."""
        self.session.drop_jobs()
        self.set_parameters(None)
        for section in self.sections:
            section.scene_closing()

    def close(self):
        """The panel goes away."""
        self._refresh_timer.stop()
        for job, callback in self._watched:
            job.ignore(callback)
        self._watched = []
        for section in self.sections:
            section.close()
        edit_trip.forget()
        self.set_parameters(None)
        self.removeObservers()

    def watch(self, job, callback):
        """Tell `callback(job)` of a job until the panel goes away."""
        self._watched = [(known, told) for known, told in self._watched if not known.over] + [(job, callback)]
        job.observe(callback)

    def device(self):
        """What to compute with."""
        return worker_session.device()

    def missing_packages(self):
        """Names of packages that have to be installed first."""
        return self.setup.missing

    def obstacle(self):
        """Why nothing can be computed yet, as a sentence; "" when the background process can be asked."""
        return _("Install what is missing first, in Setup") if self.missing_packages() else ""

    def refresh_soon(self):
        """Show the choices once the event loop is idle, however many have changed."""
        self._refresh_timer.start()

    def refresh(self):
        """Show the choices as they are."""
        if self.parameters is None:
            return
        for section in self.sections:
            section.refresh()
        situation = self._situation()
        for label, text in (
            (self.ui.guideSteps, guide.steps_html(situation)),
            (self.ui.guideText, guide.next_step(situation)),
        ):
            if label.text != text:
                label.text = text

    def _situation(self):
        chosen = self.parameters
        targets = int(not self.segment.ready()) if chosen.targets_in_folder else len(parameters.targets_of(chosen))
        supports = parameters.supports_of(chosen)
        return guide.Situation(
            packages_missing=self.missing_packages(),
            supports=len(supports),
            structures=len(self.support.ticked_names()),
            support_volume=bool(supports) or chosen.support_volume is not None,
            support_segmentation=bool(supports) or chosen.support_segmentation is not None,
            targets=targets,
            running=self.segment.running,
            finished=self.segment.finished,
            folder=chosen.targets_in_folder,
        )

    def _on_choice(self, _caller, _event):
        self.refresh_soon()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_scene_changed(self, _caller, _event, node):
        if node is not None and (node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLSegmentationNode")):
            self.refresh_soon()

    def _on_guide_link(self, link):
        if link == guide.SAMPLE_LINK:
            self.load_sample()

    def load_sample(self):
        """Put a marked and an unmarked phantom into the scene and choose them."""
        from SSLFewShotSlicer import sample_data

        try:
            sample = sample_data.load_sample()
        except InputError as error:
            self.support.message.error(str(error))
            return
        modifying = self.parameters.StartModify()
        self.parameters.support_volume, self.parameters.support_segmentation = sample.support
        self.parameters.target_volume = sample.target
        self.parameters.EndModify(modifying)
        self.support.message.information(
            _("Two made torsos: the first one is marked. Click Apply to have the second one segmented")
        )

    def _style_guide(self):
        # Roles instead of a style sheet: they follow the palette when the user changes it.
        self.ui.guideFrame.setBackgroundRole(qt.QPalette.Base)
        self.ui.guideBar.setBackgroundRole(qt.QPalette.Highlight)
