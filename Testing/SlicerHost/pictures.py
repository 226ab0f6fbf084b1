"""Pictures: of the panel in Slicer's light and dark look, and of slices with their segments."""

import numpy as np
import slicer
import vtk
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QColor, QFont, QImage, QPainter, QPixmap, QRegion
from PySide6.QtWidgets import QApplication, QWidget
from vtk.util import numpy_support

from .conversion import alive, is_wrapper
from .look import dress, palette

# Slicer's colours of the three views, their letters, and the world axes (R, A, S) to the right, up and through.
VIEWS = (
    ("#f34e35", "R", (-1, 0, 0), (0, 1, 0), (0, 0, 1), "S"),
    ("#6eb04b", "G", (-1, 0, 0), (0, 0, 1), (0, 1, 0), "A"),
    ("#edd54c", "Y", (0, -1, 0), (0, 0, 1), (1, 0, 0), "R"),
)
BAR, LEGEND = 22, 24


def _widget_of(shown):
    """The Qt widget of a façade object, of a module's widget object, or of something that has `.widget`."""
    for attribute in ("parent", "widget"):
        if not is_wrapper(shown) and not isinstance(shown, QWidget) and hasattr(shown, attribute):
            found = getattr(shown, attribute)
            shown = found() if callable(found) and not is_wrapper(found) else found
    return alive(shown) if is_wrapper(shown) else shown


def _settle():
    for _ in range(3):
        QApplication.sendPostedEvents()
        QApplication.processEvents()


def screenshot(shown, path, dark=False, width=480, scale=1):
    """Save a picture of a widget, a section or the whole panel, as wide as Slicer's module panel.

    The panel is given the height that it asks for, so that nothing of it is cut off.
    """
    application = QApplication.instance()
    widget = _widget_of(shown)
    window = widget.window()
    dress(application, dark)
    window.resize(width, max(window.sizeHint().height(), window.minimumSizeHint().height()))
    if not window.isVisible():
        window.show()
    _settle()
    wanted = max(window.sizeHint().height(), window.heightForWidth(width), 40)
    window.resize(width, wanted)
    _settle()
    picture = QPixmap(widget.size() * scale)
    picture.setDevicePixelRatio(scale)
    picture.fill(palette(dark).color(palette(dark).ColorRole.Window))
    widget.render(picture, QPoint(), QRegion(), QWidget.DrawChildren | QWidget.DrawWindowBackground)
    if not picture.save(str(path)):
        raise OSError(f"the picture was not written: {path}")
    dress(application, dark=False)
    _settle()
    return str(path)


class _Plane:
    """A square of world points (mm, RAS) that a slice view shows."""

    def __init__(self, view, centre, half, size):
        _, _, right, up, through, self.letter = view
        steps = np.linspace(-half, half, size)
        self.points = (
            np.asarray(centre)[None, None, :]
            + steps[None, :, None] * np.asarray(right, float)
            + steps[::-1][:, None, None] * np.asarray(up, float)
        )
        self.offset = float(np.dot(centre, through))


def world_to_ijk(volume, points):
    """Continuous voxel indices (I, J, K) of world points, through the volume's parent transforms."""
    flat = np.ascontiguousarray(points.reshape(-1, 3))
    transform = volume.GetParentTransformNode()
    if transform is not None:
        general = vtk.vtkGeneralTransform()
        transform.GetTransformFromWorld(general)
        source, moved = vtk.vtkPoints(), vtk.vtkPoints()
        source.SetData(numpy_support.numpy_to_vtk(flat, deep=True))
        general.TransformPoints(source, moved)
        flat = numpy_support.vtk_to_numpy(moved.GetData()).astype(float)
    matrix = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(matrix)
    ras_to_ijk = slicer.util.arrayFromVTKMatrix(matrix)
    return (flat @ ras_to_ijk[:3, :3].T + ras_to_ijk[:3, 3]).reshape(points.shape)


def ijk_to_world(volume, ijk):
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    ras = (slicer.util.arrayFromVTKMatrix(matrix) @ np.append(ijk, 1.0))[:3]
    if volume.GetParentTransformNode() is not None:
        general = vtk.vtkGeneralTransform()
        volume.GetParentTransformNode().GetTransformToWorld(general)
        ras = np.array(general.TransformPoint(ras))
    return ras


def _sample(array, ijk, outside=0):
    """Nearest values of a (K, J, I) array at (I, J, K) indices."""
    index = np.floor(ijk[..., ::-1] + 0.5).astype(int)
    inside = np.all((index >= 0) & (index < array.shape), axis=-1)
    index = np.clip(index, 0, np.array(array.shape) - 1)
    return np.where(inside, array[index[..., 0], index[..., 1], index[..., 2]], outside)


def _grey(volume, values):
    display = volume.GetDisplayNode()
    if display is not None and hasattr(display, "GetWindow") and not display.GetAutoWindowLevel():
        low, high = display.GetLevel() - display.GetWindow() / 2, display.GetLevel() + display.GetWindow() / 2
    else:
        low, high = np.percentile(slicer.util.arrayFromVolume(volume), (1, 99.5))
    grey = np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


def _segments(segmentation, volume):
    """(name, colour, mask over the volume) of each segment."""
    if segmentation is None:
        return []
    found = []
    for index in range(segmentation.GetSegmentation().GetNumberOfSegments()):
        segment_id = segmentation.GetSegmentation().GetNthSegmentID(index)
        segment = segmentation.GetSegmentation().GetSegment(segment_id)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume)
        if mask is None:
            mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
        found.append((segment.GetName(), np.array(segment.GetColor()), mask > 0))
    return found


def _blend(image, mask, colour):
    edge = mask & ~(np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1))
    paint = colour * 255
    image[mask] = (image[mask] * 0.5 + paint * 0.5).astype(np.uint8)
    image[edge] = paint.astype(np.uint8)


def _centre(volume, segments):
    shape = slicer.util.arrayFromVolume(volume).shape
    union = np.any([mask for _, _, mask in segments], axis=0) if segments else np.zeros(shape, bool)
    if union.any():
        kji = np.argwhere(union).mean(axis=0)
    else:
        kji = (np.array(shape) - 1) / 2
    return ijk_to_world(volume, kji[::-1])


def _half(volume, centre):
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    return float(max(np.abs(bounds[0::2] - centre).max(), np.abs(bounds[1::2] - centre).max(), 1.0))


def slices(volume, segmentation, path, centre=None, size=300, title=""):
    """Save the three slice views (axial, coronal, sagittal) of a volume with its segments.

    centre: world point (mm, RAS) through which the planes go; else the centre of the segments.
    """
    segments = _segments(segmentation, volume)
    centre = np.asarray(centre if centre is not None else _centre(volume, segments), float)
    half = _half(volume, centre)
    array = slicer.util.arrayFromVolume(volume)
    picture = QImage(3 * size + 2, size + BAR + LEGEND, QImage.Format_RGB888)
    picture.fill(QColor("#000000"))
    painter = QPainter(picture)
    painter.setFont(QFont("DejaVu Sans", 9))
    for number, view in enumerate(VIEWS):
        plane = _Plane(view, centre, half, size)
        ijk = world_to_ijk(volume, plane.points)
        image = _grey(volume, _sample(array, ijk, array.min()))
        for _, colour, mask in segments:
            _blend(image, _sample(mask, ijk, False).astype(bool), colour)
        left = number * (size + 1)
        _draw(painter, image, left, view, plane.offset, size)
    _draw_legend(painter, segments, title or volume.GetName(), size)
    painter.end()
    if not picture.save(str(path)):
        raise OSError(f"the picture was not written: {path}")
    return str(path)


def _draw(painter, image, left, view, offset, size):
    image = np.ascontiguousarray(image)
    painter.fillRect(QRect(left, 0, size, BAR), QColor(view[0]))
    painter.setPen(QColor("#000000"))
    painter.drawText(QRect(left + 8, 0, 40, BAR), Qt.AlignVCenter, view[1])
    text = f"{view[5]}: {offset:.1f}mm"
    painter.drawText(QRect(left, 0, size - 8, BAR), Qt.AlignVCenter | Qt.AlignRight, text)
    height, width, _ = image.shape
    painter.drawImage(left, BAR, QImage(image.data, width, height, 3 * width, QImage.Format_RGB888).copy())


def _draw_legend(painter, segments, title, size):
    top = size + BAR
    painter.fillRect(QRect(0, top, 3 * size + 2, LEGEND), QColor("#202020"))
    painter.setPen(QColor("#e0e0e0"))
    painter.drawText(QRect(8, top, 400, LEGEND), Qt.AlignVCenter, title)
    left = 16 + painter.fontMetrics().horizontalAdvance(title) + 16
    for name, colour, _ in segments:
        painter.fillRect(QRect(left, top + 6, 12, 12), QColor.fromRgbF(*[float(part) for part in colour]))
        painter.drawText(QRect(left + 18, top, 300, LEGEND), Qt.AlignVCenter, name)
        left += 18 + painter.fontMetrics().horizontalAdvance(name) + 18
