"""qMRMLSegmentSelectorWidget: a segmentation and one or several of its segments."""

from PySide6.QtCore import QModelIndex, Qt, Signal
from PySide6.QtWidgets import QBoxLayout, QComboBox, QSizePolicy

from ..qt_names import stands_for
from ..widgets.combos import CheckableComboBox
from .node_combo import NodeComboBox
from .roots import SCENE_SIGNAL, MRMLWidget
from .segment_rows import segment_ids, watch_segments
from .watching import Watch

SIGNALS = {
    **SCENE_SIGNAL,
    "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
    "currentNodeChanged(bool)": "currentNodeIsThere",
    "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited",
    "segmentSelectionChanged(QStringList)": "segmentSelectionChanged",
}


@stands_for("qMRMLSegmentSelectorWidget", SIGNALS)
class SegmentSelectorWidget(MRMLWidget):
    currentNodeChanged = Signal(object)
    currentNodeIsThere = Signal(bool)
    currentSegmentChanged = Signal(str)
    segmentSelectionChanged = Signal(object)
    nodeAboutToBeEdited = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._layout = QBoxLayout(QBoxLayout.TopToBottom, self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self.nodes = NodeComboBox(self)
        self.nodes.setNodeTypes(["vtkMRMLSegmentationNode"])
        self.nodes.setAddEnabled(False)
        self.nodes.setRemoveEnabled(False)
        self.one, self.several = QComboBox(self), CheckableComboBox(self)
        self.several.setVisible(False)
        for part in (self.nodes, self.one, self.several):
            self._layout.addWidget(part)
        self._multi, self._watch, self._filling, self._none = False, Watch(self), False, False
        self.nodes.currentNodeChanged.connect(self._on_node)
        self.nodes.currentNodeIsThere.connect(self.currentNodeIsThere)
        self.one.currentIndexChanged.connect(lambda _: self.currentSegmentChanged.emit(self.currentSegmentID()))
        self.several.checkedIndexesChanged.connect(self._on_checks)

    def setMRMLScene(self, scene):
        super().setMRMLScene(scene)
        self.nodes.setMRMLScene(scene)

    def _on_node(self, node):
        self._watch.stop()
        if node is not None:
            watch_segments(self._watch, node, "refresh")
        self.refresh()
        self.currentNodeChanged.emit(node)

    def refresh(self):
        node, current, chosen = self.currentNode(), self.currentSegmentID(), self.selectedSegmentIDs()
        self._filling = True
        for combo in (self.one, self.several):
            combo.blockSignals(True)
            combo.clear()
        if self._none:
            self.one.addItem("None", "")
        for segment_id in segment_ids(node):
            name = node.GetSegmentation().GetSegment(segment_id).GetName()
            self.one.addItem(name, segment_id)
            self.several.addItem(name, segment_id)
        for combo in (self.one, self.several):
            combo.blockSignals(False)
        self._filling = False
        self.setCurrentSegmentID(current)
        self.setSelectedSegmentIDs(chosen)

    def _on_checks(self):
        if not self._filling:
            self.segmentSelectionChanged.emit(self.selectedSegmentIDs())

    def currentNode(self):
        return self.nodes.currentNode()

    def currentNodeID(self):
        return self.nodes.currentNodeID()

    def setCurrentNode(self, node):
        self.nodes.setCurrentNode(node)

    def setCurrentNodeID(self, node_id):
        self.nodes.setCurrentNodeID(node_id)

    def currentSegmentID(self):
        return self.one.currentData() or ""

    def setCurrentSegmentID(self, segment_id):
        index = self.one.findData(segment_id)
        if index >= 0:
            self.one.setCurrentIndex(index)

    def segmentIDs(self):
        return segment_ids(self.currentNode())

    def selectedSegmentIDs(self):
        return [self.several.itemData(index.row()) for index in self.several.checkedIndexes()]

    def setSelectedSegmentIDs(self, wanted):
        for row in range(self.several.count()):
            index = self.several.model().index(row, 0, QModelIndex())
            self.several.setCheckState(index, Qt.Checked if self.several.itemData(row) in wanted else Qt.Unchecked)

    def multiSelection(self):
        return self._multi

    def setMultiSelection(self, multi):
        self._multi = multi
        self.one.setVisible(not multi)
        self.several.setVisible(multi)

    def noneEnabled(self):
        return self.nodes.noneEnabled()

    def setNoneEnabled(self, enabled):
        self._none = enabled
        self.nodes.setNoneEnabled(enabled)
        self.refresh()

    def editEnabled(self):
        return self.nodes.editEnabled()

    def setEditEnabled(self, enabled):
        self.nodes.setEditEnabled(enabled)

    def selectNodeUponCreation(self):
        return self.nodes.selectNodeUponCreation()

    def setSelectNodeUponCreation(self, select):
        self.nodes.setSelectNodeUponCreation(select)

    def horizontalLayout(self):
        return self._layout.direction() == QBoxLayout.LeftToRight

    def setHorizontalLayout(self, horizontal):
        self._layout.setDirection(QBoxLayout.LeftToRight if horizontal else QBoxLayout.TopToBottom)

    def segmentationNodeSelectorVisible(self):
        return not self.nodes.isHidden()

    def setSegmentationNodeSelectorVisible(self, visible):
        self.nodes.setVisible(visible)
