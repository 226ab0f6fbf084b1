"""What every test shares: where the real scans are, and quiet, reproducible numerics."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans, from the environment variable SSLFEWSHOT_DATA."""
    folder = os.environ.get("SSLFEWSHOT_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SSLFEWSHOT_DATA does not name a folder of real scans")
    return Path(folder)
