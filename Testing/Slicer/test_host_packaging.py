"""The host's slicer.packaging asks truly and installs nothing."""

import sys

import pytest


@pytest.fixture
def packaging(host):
    import slicer.packaging

    if not hasattr(slicer.packaging, "pip_command"):
        pytest.skip("Slicer's own packaging runs, which has its own tests")
    yield slicer.packaging
    slicer.packaging.pip_command = None


def test_what_is_installed_is_known(packaging):
    assert packaging.pip_check("numpy>=1.20")
    assert not packaging.pip_check("numpy>=99")
    assert not packaging.pip_check("a-package-that-is-not-there")
    assert packaging.pip_check("a-package-that-is-not-there; python_version < '3'")


def test_requirements_are_read_without_comments(packaging, tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# torch\nnumpy>=1.20  # arrays\n\nscipy\n", encoding="utf-8")
    assert [str(one) for one in packaging.load_requirements(path)] == ["numpy>=1.20", "scipy"]


def test_an_installation_that_nobody_stands_for_raises(packaging):
    with pytest.raises(RuntimeError, match="installs nothing"):
        packaging.pip_install("a-package-that-is-not-there")


def test_a_declined_installation_raises(packaging):
    with pytest.raises(RuntimeError, match="declined"):
        packaging.pip_ensure("a-package-that-is-not-there", requester="SSLFewShot")


def test_an_installation_hands_over_its_lines_and_its_code(packaging, host):
    packaging.pip_command = [sys.executable, "-c", "import sys; print('asked for', *sys.argv[1:]); sys.exit(3)"]
    lines, codes = [], []
    packaging.pip_install("a b", blocking=False, logCallback=lines.append, completedCallback=codes.append)
    assert host.wait_until(lambda: codes, 20)
    assert lines == ["asked for install a b"] and codes == [3]
