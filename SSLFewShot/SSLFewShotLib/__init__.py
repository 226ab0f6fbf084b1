"""Few-shot segmentation of 3D medical images with self-supervised descriptors.

Nothing heavy is imported here: `import SSLFewShotLib` costs milliseconds, so that an application can
read cards and geometry without loading torch.
"""

from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.version import __version__

__all__ = ["Cancelled", "InputError", "__version__"]
