"""`_`: a text in the user's language, looked up once. Slicer's own `tr` walks the whole call stack each time."""

import functools

from slicer.i18n import tr

# No Python frame lies between the caller and `tr`, which tells the file's name from the frame above its own.
_ = functools.lru_cache(maxsize=None)(tr)
