"""The scene and the logics of Slicer's own modules, as the application sets them up."""

import slicer
import vtk

# Module name: logic class. What a segmentation module may ask of slicer.modules.<name>.logic().
LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}
SLICES = (("Red", "R", "Axial"), ("Green", "G", "Coronal"), ("Yellow", "Y", "Sagittal"))


class Logics:
    """One scene with everything that observes it."""

    def __init__(self, folder):
        self.scene = slicer.vtkMRMLScene()
        self.cache = slicer.vtkCacheManager()
        self.cache.SetMRMLScene(self.scene)
        self.cache.SetRemoteCacheDirectory(str(folder))
        self.scene.SetCacheManager(self.cache)
        self._keep_nodes()
        self.application = slicer.vtkSlicerApplicationLogic()
        self.by_module = {}
        self.application.SetMRMLScene(self.scene)
        for module, class_name in LOGICS.items():
            logic = getattr(slicer, class_name)()
            if hasattr(logic, "SetMRMLApplicationLogic"):
                logic.SetMRMLApplicationLogic(self.application)
            self.application.SetModuleLogic(module, logic)
            self.by_module[module] = logic
        vtk.vtkObject.GlobalWarningDisplayOff()  # the wheel has no colour files, and says so for each
        for logic in self.by_module.values():
            logic.SetMRMLScene(self.scene)
        vtk.vtkObject.GlobalWarningDisplayOn()
        self._set_relations()
        self.slices = {name: self._slice(name, label, plane) for name, label, plane in SLICES}

    def _keep_nodes(self):
        """Hold the Python object of every node while the node is in the scene.

        VTK lets Python's garbage collector look through a node at its observers: an observer that only VTK and
        the node's own Python object know is taken apart while VTK still calls it, which crashes. A module that
        leaves such an observer behind can meet this in Slicer too; here the tests after it shall not.
        """
        kept = self.kept = {}

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def keep(scene, event, node):
            kept[node.GetAddressAsString("")] = node

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def let_go(scene, event, node):
            kept.pop(node.GetAddressAsString(""), None)

        self._keepers = keep, let_go
        self.scene.AddObserver(self.scene.NodeAboutToBeAddedEvent, keep)
        self.scene.AddObserver(self.scene.NodeRemovedEvent, let_go)

    def _set_relations(self):
        self.application.SetColorLogic(self.by_module["Colors"])
        self.scene.AddNode(slicer.vtkMRMLSelectionNode())
        self.scene.AddNode(slicer.vtkMRMLInteractionNode())

    def _slice(self, name, label, plane):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self.application)
        logic.SetMRMLScene(self.scene)
        node = logic.AddSliceNode(name)
        node.SetLayoutLabel(label)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene)
        node.SetOrientation(plane)
        node.SetDimensions(256, 256, 1)
        return logic
