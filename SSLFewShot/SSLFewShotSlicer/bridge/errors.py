"""What can be wrong between the scene and the worker's files, each as one plain sentence for the user."""

from __future__ import annotations

from SSLFewShotLib.errors import InputError


class BridgeError(InputError):
    """A node or a result cannot be used; the message names it and says what to do."""


class NodeGoneError(BridgeError):
    """The node was deleted, or its scene closed, since it was chosen."""


class UnusableNodeError(BridgeError):
    """The node is there, but it is not what was expected (no image, vectors, another class)."""


class SegmentsError(BridgeError):
    """The segmentation has no segment that can be used, or two that cannot be told apart."""


class SegmentExistsError(BridgeError):
    """The segmentation has these segments already, and nobody has asked to replace them.

    names: the segments' names.
    """

    def __init__(self, message: str, names: list[str]):
        super().__init__(message)
        self.names = names


class ResultError(BridgeError):
    """The worker's result cannot be put into the scene (damaged, or the scan has changed meanwhile)."""
