"""qMRMLCheckableNodeComboBox: several nodes, each with a check box."""

from PySide6.QtCore import QModelIndex, Qt, Signal

from ..qt_names import stands_for
from ..widgets.combos import CheckableComboBox
from .node_combo import NODE_ID, NODE_SIGNALS, NodeComboBox


@stands_for("qMRMLCheckableNodeComboBox", NODE_SIGNALS)
class CheckableNodeComboBox(NodeComboBox):
    checkedNodesChanged = Signal()

    def __init__(self, parent=None):
        self._checked = set()
        super().__init__(parent)
        self._add = self._remove = False
        self.combo.checkedIndexesChanged.connect(self._on_checks)

    def _make_combo(self):
        return CheckableComboBox(self)

    def _add_node_item(self, node):
        super()._add_node_item(node)
        index = self._index(node)
        self.combo.setCheckState(index, Qt.Checked if node.GetID() in self._checked else Qt.Unchecked)

    def _index(self, node):
        for row in range(self.combo.count()):
            if self.combo.itemData(row, NODE_ID) == node.GetID():
                return self.combo.model().index(row, 0, QModelIndex())
        return QModelIndex()

    def _fill(self, nodes):
        before = self._checked & {node.GetID() for node in nodes}
        self._checked = before
        self._updating = True
        super()._fill(nodes)
        self._updating = False

    def _on_checks(self):
        if self._updating:
            return
        rows = [index.row() for index in self.combo.checkedIndexes()]
        checked = {self.combo.itemData(row, NODE_ID) for row in rows} - {None}
        if checked != self._checked:
            self._checked = checked
            self.checkedNodesChanged.emit()

    def checkedNodes(self):
        return [node for node in self.filter.nodes(self._scene) if node.GetID() in self._checked]

    def uncheckedNodes(self):
        return [node for node in self.filter.nodes(self._scene) if node.GetID() not in self._checked]

    def allChecked(self):
        return not self.uncheckedNodes()

    def noneChecked(self):
        return not self.checkedNodes()

    def checkState(self, node):
        return Qt.Checked if node.GetID() in self._checked else Qt.Unchecked

    def setCheckState(self, node, state):
        index = self._index(node)
        if index.isValid():
            self.combo.setCheckState(index, state)

    def check(self, node):
        self.setCheckState(node, Qt.Checked)

    def uncheck(self, node):
        self.setCheckState(node, Qt.Unchecked)

    def setUserCheckable(self, node, checkable):
        index, model = self._index(node), self.combo.model()
        if index.isValid():
            # By its index, see CheckableComboBox: Qt's own items keep their flags there.
            flags = model.flags(index)
            flags = flags | Qt.ItemIsEnabled if checkable else flags & ~Qt.ItemIsEnabled
            model.setData(index, flags.value, Qt.UserRole.value - 1)
