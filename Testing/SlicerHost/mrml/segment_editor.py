"""qMRMLSegmentEditorWidget: a stand-in that says so; it holds the nodes, it does not draw."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QLabel, QVBoxLayout

from ..qt_names import stands_for
from .roots import SCENE_SIGNAL, MRMLWidget
from .segments_table import SegmentsTableView

SIGNALS = {
    **SCENE_SIGNAL,
    "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged",
    "masterVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged",
    "segmentationNodeChanged(vtkMRMLSegmentationNode*)": "segmentationNodeChanged",
}


@stands_for("qMRMLSegmentEditorWidget", SIGNALS)
class SegmentEditorWidget(MRMLWidget):
    currentSegmentIDChanged = Signal(str)
    sourceVolumeNodeChanged = Signal(object)
    segmentationNodeChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QVBoxLayout(self)
        notice = QLabel("Slicer's Segment Editor is here (the test host shows its segments only).", self)
        notice.setWordWrap(True)
        notice.setFrameShape(QFrame.StyledPanel)
        notice.setMargin(6)
        self.table = SegmentsTableView(self)
        layout.addWidget(notice)
        layout.addWidget(self.table)
        self._editor, self._segmentation, self._source, self._segment, self._effect = None, None, None, "", ""
        self._interaction, self._order = None, []
        self.table.selectionChanged.connect(self._on_selection)

    def _on_selection(self, *_):
        chosen = self.table.selectedSegmentIDs()
        self.setCurrentSegmentID(chosen[0] if chosen else "")

    def setMRMLScene(self, scene):
        super().setMRMLScene(scene)
        self.table.setMRMLScene(scene)

    def mrmlSegmentEditorNode(self):
        return self._editor

    def setMRMLSegmentEditorNode(self, node):
        self._editor = node
        if node is not None:
            self.setSegmentationNode(node.GetSegmentationNode())
            self.setSourceVolumeNode(node.GetSourceVolumeNode())

    def segmentationNode(self):
        return self._segmentation

    def segmentationNodeID(self):
        return self._segmentation.GetID() if self._segmentation else ""

    def setSegmentationNode(self, node):
        if node is self._segmentation:
            return
        self._segmentation = node
        if self._editor is not None:
            self._editor.SetAndObserveSegmentationNode(node)
        self.table.setSegmentationNode(node)
        self.segmentationNodeChanged.emit(node)

    def setSegmentationNodeID(self, node_id):
        self.setSegmentationNode(self._scene.GetNodeByID(node_id))

    def sourceVolumeNode(self):
        return self._source

    masterVolumeNode = sourceVolumeNode

    def sourceVolumeNodeID(self):
        return self._source.GetID() if self._source else ""

    masterVolumeNodeID = sourceVolumeNodeID

    def setSourceVolumeNode(self, node):
        if node is self._source:
            return
        self._source = node
        if self._editor is not None:
            self._editor.SetAndObserveSourceVolumeNode(node)
        self.sourceVolumeNodeChanged.emit(node)

    setMasterVolumeNode = setSourceVolumeNode

    def setSourceVolumeNodeID(self, node_id):
        self.setSourceVolumeNode(self._scene.GetNodeByID(node_id))

    def currentSegmentID(self):
        return self._segment

    def setCurrentSegmentID(self, segment_id):
        if segment_id == self._segment:
            return
        self._segment = segment_id
        if self._editor is not None:
            self._editor.SetSelectedSegmentID(segment_id)
        self.currentSegmentIDChanged.emit(segment_id)

    def setActiveEffectByName(self, name):
        self._effect = name
        if self._editor is not None:
            self._editor.SetActiveEffectName(name)

    def activeEffect(self):
        return None

    def availableEffectNames(self):
        return []

    def setActiveEffect(self, effect):
        self._effect = ""

    def effectNameOrder(self):
        return self._order

    def setEffectNameOrder(self, names):
        self._order = list(names)

    def interactionNode(self):
        return self._interaction

    def setInteractionNode(self, node):
        self._interaction = node

    def _nothing(self, *_):
        """Shortcuts, view observations and undo belong to the views, which the host does not have."""

    updateWidgetFromMRML = setupViewObservations = removeViewObservations = _nothing
    installKeyboardShortcuts = uninstallKeyboardShortcuts = saveStateForUndo = _nothing
    undo = redo = hideLabelLayer = updateEffectList = jumpSlices = _nothing


_SETTINGS = {
    "addRemoveSegmentButtonsVisible": True, "autoShowSourceVolumeNode": True, "defaultTerminologyEntry": "",
    "defaultTerminologyEntrySettingsKey": "", "effectButtonStyle": 0, "effectColumnCount": 2,
    "jumpToSelectedSegmentEnabled": False, "maskingSectionVisible": True, "maximumNumberOfUndoStates": 10,
    "readOnly": False, "segmentationNodeSelectorVisible": True, "show3DButtonVisible": True,
    "sourceVolumeNodeSelectorVisible": True, "specifyGeometryButtonVisible": True,
    "switchToSegmentationsButtonVisible": True, "undoEnabled": True, "unorderedEffectsVisible": True,
}  # fmt: skip


def _setting(name, default):
    setattr(SegmentEditorWidget, name, lambda self: self.__dict__.get(f"kept_{name}", default))
    title = f"set{name[0].upper()}{name[1:]}"
    setattr(SegmentEditorWidget, title, lambda self, value: self.__dict__.__setitem__(f"kept_{name}", value))


for _name, _default in _SETTINGS.items():
    _setting(_name, _default)
