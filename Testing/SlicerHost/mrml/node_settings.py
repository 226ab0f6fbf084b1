"""What a node selector can be told: types, what is hidden, which actions the list ends with."""


class NodeSettings:
    """The settings of qMRMLNodeComboBox; each change shows the list anew."""

    def nodeTypes(self):
        return self.filter.types

    def setNodeTypes(self, types):
        self.filter.types = list(types)
        self.refresh()

    def hideChildNodeTypes(self):
        return self.filter.hidden_types

    def setHideChildNodeTypes(self, types):
        self.filter.hidden_types = list(types)
        self.refresh()

    def showChildNodeTypes(self):
        return self.filter.show_children

    def setShowChildNodeTypes(self, show):
        self.filter.show_children = show
        self.refresh()

    def showHidden(self):
        return self.filter.show_hidden

    def setShowHidden(self, show):
        self.filter.show_hidden = show
        self.refresh()

    def addAttribute(self, node_type, name, value=None):
        self.filter.add_attribute(node_type, name, value)
        self.refresh()

    def removeAttribute(self, node_type, name):
        self.filter.remove_attribute(node_type, name)
        self.refresh()

    def noneEnabled(self):
        return self._none_enabled

    def setNoneEnabled(self, enabled):
        self._none_enabled = enabled
        self.refresh()

    def noneDisplay(self):
        return self._none_display

    def setNoneDisplay(self, text):
        self._none_display = text
        self.refresh()

    def nodeTypeLabel(self, node_type):
        if node_type in self._type_labels:
            return self._type_labels[node_type]
        return (self._scene.GetTypeDisplayNameByClassName(node_type) if self._scene else "") or "node"

    def setNodeTypeLabel(self, label, node_type):
        self._type_labels[node_type] = label
        self.refresh()

    def addMenuAction(self, action):
        self._menu_actions.append(action)
        self.refresh()

    def sizeAdjustPolicy(self):
        return self.combo.sizeAdjustPolicy()

    def setSizeAdjustPolicy(self, policy):
        self.combo.setSizeAdjustPolicy(policy)


def _plain_setting(name, attribute):
    """Getter and setter of a setting that only the list of actions depends on."""

    def read(self):
        return getattr(self, attribute)

    def write(self, value):
        setattr(self, attribute, value)
        self.refresh()

    setattr(NodeSettings, name, read)
    setattr(NodeSettings, f"set{name[0].upper()}{name[1:]}", write)


for _name, _attribute in (
    ("addEnabled", "_add"), ("removeEnabled", "_remove"), ("editEnabled", "_edit"), ("renameEnabled", "_rename"),
    ("selectNodeUponCreation", "_select_new"), ("baseName", "_base_name"),
    ("interactionNodeSingletonTag", "_singleton_tag"),
):  # fmt: skip
    _plain_setting(_name, _attribute)
