"""slicer.app.coreIOManager(): reading and writing with MRML's own storage nodes."""

import json
import os

import slicer
import vtk
from PySide6.QtCore import QObject, Signal

from .qt_names import stands_for

# File type: (endings, class of the node that is made).
READERS = {
    "SceneFile": ((".mrml", ".mrb"), None),
    "SegmentationFile": ((".seg.nrrd", ".seg.nhdr"), "vtkMRMLSegmentationNode"),
    "SequenceFile": ((".seq.nrrd", ".seq.nhdr", ".seq.mrb"), "vtkMRMLSequenceNode"),
    "MarkupsFile": ((".mrk.json", ".fcsv"), None),
    "VolumeFile": ((".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd"), "vtkMRMLScalarVolumeNode"),
    "TransformFile": ((".h5", ".tfm", ".mat"), "vtkMRMLTransformNode"),
    "TableFile": ((".csv", ".tsv"), "vtkMRMLTableNode"),
    "TextFile": ((".txt", ".json"), "vtkMRMLTextNode"),
}
VOLUME_FORMATS = ("NRRD (.nrrd)", "NRRD (.nhdr)", "MetaImage (.mha)", "NIfTI (.nii)", "NIfTI (.nii.gz)")
WRITERS = (
    ("vtkMRMLSegmentationNode", "SegmentationFile"),
    ("vtkMRMLVolumeNode", "VolumeFile"),
    ("vtkMRMLMarkupsNode", "MarkupsFile"),
    ("vtkMRMLTransformNode", "TransformFile"),
    ("vtkMRMLTableNode", "TableFile"),
    ("vtkMRMLTextNode", "TextFile"),
    ("vtkMRMLSequenceNode", "SequenceFile"),
)


@stands_for("qSlicerCoreIOManager")
class FileManager(QObject):
    newFileLoaded = Signal(object)
    fileSaved = Signal(object)

    def fileType(self, path):
        for name, (endings, _) in READERS.items():
            if path.lower().endswith(endings):
                return name
        return "NoFile"

    def fileWriterFileType(self, node, extension=""):
        return next((name for class_name, name in WRITERS if node.IsA(class_name)), "NoFile")

    def loadNodes(self, file_type, properties, loaded=None, messages=None):
        path = properties["fileName"]
        if not os.path.isfile(path):
            return self._fail(messages, f"There is no file '{path}'.")
        if file_type == "SceneFile":
            slicer.mrmlScene.SetURL(path)
            return bool(slicer.mrmlScene.Connect() if properties.get("clear") else slicer.mrmlScene.Import())
        node = self._new_node(file_type, properties)
        if node is None:
            return self._fail(messages, f"No reader for '{path}' ({file_type}).")
        storage = node.CreateDefaultStorageNode()
        storage.UnRegister(None)
        slicer.mrmlScene.AddNode(storage)
        storage.SetFileName(path)
        node.SetAndObserveStorageNodeID(storage.GetID())
        if not storage.ReadData(node):
            slicer.mrmlScene.RemoveNode(storage)
            slicer.mrmlScene.RemoveNode(node)
            return self._fail(messages, f"Could not read '{path}'.")
        if properties.get("show", True) and hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        if loaded is not None:
            loaded.AddItem(node)
        self.newFileLoaded.emit(properties)
        return True

    def _new_node(self, file_type, properties):
        class_name = READERS.get(file_type, (None, None))[1]
        if file_type == "VolumeFile" and properties.get("labelmap"):
            class_name = "vtkMRMLLabelMapVolumeNode"
        if file_type == "MarkupsFile":
            return self._markups(properties)
        if class_name is None:
            return None
        return slicer.mrmlScene.AddNewNodeByClass(class_name, self._name(properties))

    def _markups(self, properties):
        with open(properties["fileName"], encoding="utf-8") as file:
            kind = json.load(file)["markups"][0]["type"]
        return slicer.mrmlScene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", self._name(properties))

    def _name(self, properties):
        stem = properties.get("name") or self._stripped(os.path.basename(properties["fileName"]))
        return slicer.mrmlScene.GetUniqueNameByString(stem)

    def _stripped(self, name):
        endings = sorted((one for known, _ in READERS.values() for one in known), key=len, reverse=True)
        return next((name[: -len(one)] for one in endings if name.lower().endswith(one)), name)

    def fileWriterExtensions(self, node):
        if node.IsA("vtkMRMLVolumeNode"):
            return list(VOLUME_FORMATS)  # the storage node asks ITK's factories, which the wheel leaves empty
        types = self._storage(node).GetSupportedWriteFileTypes()
        return [types.GetValue(index) for index in range(types.GetNumberOfValues())]

    def extractKnownExtension(self, path, node):
        endings = [one[one.rindex("(") + 1 : -1].lstrip("*") for one in self.fileWriterExtensions(node)]
        return max((one for one in endings if path.lower().endswith(one)), key=len, default="")

    def _storage(self, node):
        storage = node.CreateDefaultStorageNode()
        storage.UnRegister(None)
        return storage

    def exportNodes(self, node_ids, paths, properties=None, harden=False, messages=None):
        properties = properties or {}
        for node_id, path in zip(node_ids, paths, strict=True):
            node = slicer.mrmlScene.GetNodeByID(node_id)
            if not self._write(self._hardened(node) if harden else node, path, properties):
                return self._fail(messages, f"Could not write '{path}'.")
        return True

    def _hardened(self, node):
        copy = slicer.mrmlScene.CreateNodeByClass(node.GetClassName())
        copy.UnRegister(None)
        copy.SetScene(slicer.mrmlScene)
        copy.CopyContent(node)
        if node.GetParentTransformNode() is not None:
            transform = vtk.vtkGeneralTransform()
            node.GetParentTransformNode().GetTransformToWorld(transform)
            copy.ApplyTransform(transform)
        return copy

    def _write(self, node, path, properties):
        storage = self._storage(node)
        storage.SetFileName(path)
        if "useCompression" in properties:
            storage.SetUseCompression(bool(properties["useCompression"]))
        return bool(storage.WriteData(node))

    def saveNodes(self, file_type, properties, messages=None, scene=None):
        path = properties["fileName"]
        if file_type == "SceneFile":
            slicer.mrmlScene.SetURL(path)
            return bool(slicer.mrmlScene.Commit())
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if not self._write(node, path, properties):
            return self._fail(messages, f"Could not write '{path}'.")
        self.fileSaved.emit(properties)
        return True

    def loadFile(self, path, messages=None):
        return self.loadNodes(self.fileType(path), {"fileName": path}, None, messages)

    def _fail(self, messages, text):
        if messages is not None:
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, text)
        return False
