"""Run in a real Slicer: the module's self-test, with its outcome as exit code."""

import traceback

import slicer

try:
    from SSLFewShot import SSLFewShotTest

    SSLFewShotTest().runTest()
except BaseException:
    traceback.print_exc()
    slicer.util.exit(1)
else:
    slicer.util.exit(0)
