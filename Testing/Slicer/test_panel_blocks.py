"""How long the application is kept waiting while a real scan is segmented: under a tenth of a second."""

import os

import pytest

from panel_scene import apply, choose, needs_worker
from real_scans import add_real

pytestmark = [
    needs_worker,
    pytest.mark.realdata,
    pytest.mark.skipif("SSLFEWSHOT_DATA" not in os.environ, reason="SSLFEWSHOT_DATA names no folder of scans"),
]
LONGEST_MS = 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "size",
    [None, (440, 252, 416), (512, 512, 200)],
    ids=["110 × 63 × 104 voxels", "440 × 252 × 416 voxels", "512 × 512 × 200 voxels"],
)
def test_the_application_is_never_kept_waiting_for_long(panel, host, size):
    choose(panel, host, add_real("013", True, size), add_real("004", False, size))
    # What else the machine does can keep anything waiting; a block of the panel's own comes every time.
    blocks = []
    while len(blocks) < 3 and min(blocks, default=LONGEST_MS) >= LONGEST_MS:
        panel.session.support_files.forget()
        host.process(1)
        host.reset_block()
        job = apply(panel, host, 300)
        blocks.append(host.longest_block())
        assert job.state == "done", job.sentence
        panel.ui.undoButton.click()
        host.process(0.5)
    print("longest blocks:", ", ".join(f"{block:.0f} ms" for block in blocks))
    assert min(blocks) < LONGEST_MS
