"""Which nodes of a scene a selector shows."""


class NodeFilter:
    """The settings that qMRMLNodeComboBox hands to its sort-filter model."""

    def __init__(self):
        self.types, self.hidden_types = [], []
        self.show_children, self.show_hidden = True, False
        self.attributes = {}

    def add_attribute(self, node_type, name, value):
        self.attributes.setdefault(node_type, {})[name] = value

    def remove_attribute(self, node_type, name):
        self.attributes.get(node_type, {}).pop(name, None)

    def accepts(self, node):
        if node.GetHideFromEditors() and not self.show_hidden:
            return False
        if any(node.IsA(kind) for kind in self.hidden_types):
            return False
        return any(self._is_of(node, kind) for kind in self.types)

    def _is_of(self, node, kind):
        if not (node.IsA(kind) if self.show_children else node.GetClassName() == kind):
            return False
        for name, value in self.attributes.get(kind, {}).items():
            there = node.GetAttribute(name)
            if there is None or (value not in (None, "") and str(value) != there):
                return False
        return True

    def nodes(self, scene):
        if scene is None:
            return []
        every = scene.GetNodes()
        return [
            node for index in range(every.GetNumberOfItems()) if self.accepts(node := every.GetItemAsObject(index))
        ]
