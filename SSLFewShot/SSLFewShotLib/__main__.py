"""`python -m SSLFewShotLib`: the command, where its script is not on the path (inside Slicer's Python)."""

import sys

from SSLFewShotLib.cli import main

if __name__ == "__main__":
    sys.exit(main())
