"""`python -m SSLFewShotLib.worker`."""

import os
import sys

from SSLFewShotLib.worker.server import main

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: a thread that still waits for input, or a native library's own, could keep the process for long.
    os._exit(code)
