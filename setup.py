"""The packages; everything else about the project is in pyproject.toml.

pyproject.toml cannot say "all that is found, and one that lies elsewhere": the bundled models stay in
Resources/Models, where the Slicer extension has them, and are installed as the package's folder `bundled`.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages("SSLFewShot", include=["SSLFewShotLib*"]), "SSLFewShotLib.bundled"],
    package_dir={"": "SSLFewShot", "SSLFewShotLib.bundled": "Resources/Models"},
)
