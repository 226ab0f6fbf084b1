"""A vector for every voxel, learned or hand-crafted; callers cannot tell which."""

from SSLFewShotLib.descriptors.descriptor import Descriptor

__all__ = ["Descriptor"]
