"""qMRMLNodeComboBox: the nodes of a scene in a combo box."""

import vtk
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QInputDialog, QSizePolicy, QWidget

from ..qt_names import stands_for
from ..widgets.combos import ComboBox
from .node_filter import NodeFilter
from .node_settings import NodeSettings
from .watching import Watch

NODE_ID = Qt.UserRole + 1
ACTION = Qt.UserRole + 2

NODE_SIGNALS = {
    "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
    "currentNodeChanged(bool)": "currentNodeIsThere",
    "nodeActivated(vtkMRMLNode*)": "nodeActivated",
    "nodeAdded(vtkMRMLNode*)": "nodeAdded",
    "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
    "nodeAddedByUserAction(vtkMRMLNode*)": "nodeAddedByUserAction",
    "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved",
    "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited",
}


@stands_for("qMRMLNodeComboBox", NODE_SIGNALS)
class NodeComboBox(NodeSettings, QWidget):
    currentNodeChanged = Signal(object)
    currentNodeIsThere = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    currentNodeRenamed = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.combo = self._make_combo()
        layout.addWidget(self.combo)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self.filter = NodeFilter()
        self._scene, self._current_id, self._watch, self._node_watch = None, None, Watch(self), Watch(self)
        self._rows, self._requested = [], None
        self._none_enabled, self._none_display, self._base_name, self._singleton_tag = False, "None", "", ""
        self._add, self._remove, self._edit, self._rename, self._select_new = True, True, False, False, True
        self._type_labels, self._menu_actions, self._updating = {}, [], False
        self.combo.activated.connect(self._on_activated)
        self.setEnabled(False)

    def _make_combo(self):
        combo = ComboBox(self)
        combo.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
        combo.setMinimumContentsLength(8)
        return combo

    # Scene

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        self._watch.stop()
        wanted, self._requested = self._current_id or self._requested, None
        self._scene, self._rows = scene, []
        if scene is not None:
            self._watch.observe(scene, scene.NodeAddedEvent, "on_node_added", with_node=True)
            self._watch.observe(scene, scene.NodeAboutToBeRemovedEvent, "on_node_leaving", with_node=True)
            self._watch.observe(scene, scene.NodeRemovedEvent, "refresh")
            self._watch.observe(scene, scene.EndBatchProcessEvent, "refresh")
            self._watch.observe(scene, scene.EndCloseEvent, "refresh")
        self._show_nodes()
        if wanted in self._rows:
            self._choose(wanted)
        elif not self._none_enabled:
            self._choose(self._rows[0] if self._rows else None)
        else:
            self._choose(None)
        self._show_current()
        self.setEnabled(scene is not None)

    def on_node_added(self, node):
        if self.filter.accepts(node):
            self.refresh()
            self.nodeAdded.emit(node)

    def on_node_leaving(self, node):
        if self.filter.accepts(node):
            self.nodeAboutToBeRemoved.emit(node)

    def refresh(self):
        """Show the nodes as they are now; choose another where the current one has gone.

        As Qt's own combo box does for the real widget: the row before the one that has gone; and the first
        node that comes where the list was entirely empty (no item for none, no actions).
        """
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        before, empty = self._rows, self.combo.count() == 0
        self._show_nodes()
        if self._current_id is None:
            if empty and self._rows and not self._none_enabled:
                self._choose(self._rows[0])
        elif self._current_id not in self._rows:
            self._choose(self._neighbour(before))
        self._show_current()

    def _neighbour(self, before):
        """The node of the row before the one that has gone, None for the item for none or where none is left."""
        row = before.index(self._current_id) if self._current_id in before else 0
        if not self._none_enabled:
            row = max(row - 1, 0)
            return self._rows[min(row, len(self._rows) - 1)] if self._rows else None
        return self._rows[row - 1] if 0 < row <= len(self._rows) else None

    def _show_nodes(self):
        nodes = self.filter.nodes(self._scene)
        self._rows = [node.GetID() for node in nodes]
        self._node_watch.stop()
        for node in nodes:
            self._node_watch.observe(node, vtk.vtkCommand.ModifiedEvent, "on_node_modified")
        self._fill(nodes)

    def _fill(self, nodes):
        self.combo.blockSignals(True)
        if isinstance(self.combo, ComboBox):
            self.combo.setDefaultText(
                f"Select a {self.nodeTypeLabel(self.filter.types[0] if self.filter.types else '')}"
            )
        self.combo.clear()
        if self._none_enabled:
            self.combo.addItem(self._none_display)
        for node in nodes:
            self._add_node_item(node)
        actions = self._actions()
        if actions:
            self.combo.insertSeparator(self.combo.count())
            for title, action in actions:
                self.combo.addItem(title)
                self.combo.setItemData(self.combo.count() - 1, action, ACTION)
        self.combo.blockSignals(False)

    def _add_node_item(self, node):
        self.combo.addItem(node.GetName() or "")
        self.combo.setItemData(self.combo.count() - 1, node.GetID(), NODE_ID)

    def _actions(self):
        if self._scene is None:
            return []
        types = self.filter.types
        label = self.nodeTypeLabel(types[0]) if len(types) == 1 else "node"
        found = [(f"Rename current {label}", "rename")] if self._rename else []
        found += [(f"Edit current {label}", "edit")] if self._edit else []
        found += [(f"Create new {self.nodeTypeLabel(kind)}", f"add:{kind}") for kind in types if self._add]
        found += [(f"Delete current {label}", "remove")] if self._remove else []
        return found + [(action.text(), action) for action in self._menu_actions]

    def on_node_modified(self):
        for index in range(self.combo.count()):
            node_id = self.combo.itemData(index, NODE_ID)
            node = self._scene.GetNodeByID(node_id) if node_id and self._scene else None
            if node is not None and self.combo.itemText(index) != node.GetName():
                self.combo.setItemText(index, node.GetName())
                if node_id == self._current_id:
                    self.currentNodeRenamed.emit(node.GetName())

    # The current node

    def currentNode(self):
        return self._scene.GetNodeByID(self._current_id) if self._scene and self._current_id else None

    def currentNodeID(self):
        return self._current_id or ""

    currentNodeId = currentNodeID

    def setCurrentNode(self, node):
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id):
        if self._scene is None:
            self._requested = node_id or None
            return
        self._choose(node_id if node_id in self._rows else None)  # a node that is not shown cannot be chosen
        self._show_current()

    def _choose(self, node_id):
        if node_id == self._current_id:
            return
        self._current_id = node_id
        node = self.currentNode()
        self.currentNodeChanged.emit(node)
        self.currentNodeIsThere.emit(node is not None)
        self.currentNodeIDChanged.emit(node_id or "")

    def _show_current(self):
        wanted = [
            row for row in range(self.combo.count()) if self.combo.itemData(row, NODE_ID) == self._current_id
        ]
        nothing = 0 if self._none_enabled else -1
        self.combo.setCurrentIndex(wanted[0] if self._current_id and wanted else nothing)

    def nodeCount(self):
        return len(self.filter.nodes(self._scene))

    def nodeFromIndex(self, index):
        nodes = self.filter.nodes(self._scene)
        return nodes[index] if 0 <= index < len(nodes) else None

    def setCurrentNodeIndex(self, index):
        node = self.nodeFromIndex(index)
        self.setCurrentNode(node)

    # What the user does in the list

    def _on_activated(self, index):
        action = self.combo.itemData(index, ACTION)
        if action is None:
            self._choose(self.combo.itemData(index, NODE_ID))
            self.nodeActivated.emit(self.currentNode())
        elif isinstance(action, str) and action.startswith("add:"):
            node = self.addNode(action[4:])
            self.nodeAddedByUserAction.emit(node)
        elif isinstance(action, str):
            {"remove": self.removeCurrentNode, "rename": self.renameCurrentNode, "edit": self.editCurrentNode}[
                action
            ]()
        else:
            action.trigger()
        self._show_current()

    def addNode(self, node_type=None):
        node_type = node_type or (self.filter.types[0] if self.filter.types else "")
        if node_type not in self.filter.types:
            return None
        node = self._scene.CreateNodeByClass(node_type)
        if node is None:
            return None
        node.UnRegister(None)
        if self._base_name:
            node.SetName(self._scene.GetUniqueNameByString(self._base_name))
        for name, value in self.filter.attributes.get(node_type, {}).items():
            node.SetAttribute(name, str(value or ""))
        node = self._scene.AddNode(node)
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        if self._select_new:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self):
        if self.currentNode() is not None:
            self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self):
        node = self.currentNode()
        if node is None:
            return
        name, accepted = QInputDialog.getText(self, "Rename", "New name:", text=node.GetName())
        if accepted and name:
            node.SetName(name)

    def editCurrentNode(self):
        if self.currentNode() is not None:
            self.nodeAboutToBeEdited.emit(self.currentNode())
