"""`ModelStore`: the models that come with the software and those that the user made or imported."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from SSLFewShotLib.errors import InputError, InputWarning, OutputError
from SSLFewShotLib.models.archive import read_archive, write_archive
from SSLFewShotLib.models.card import CARD_FILE, ModelCard, check_name
from SSLFewShotLib.models.folder import MODEL_FILES, is_model, load_model, place_model, plain_file, read_card


class UnknownModelError(InputError):
    """There is no model of the name that was given."""


class NameTakenError(InputError):
    """A model that was to come in has the name of another one.

    details: free, a name like it that no model has; replaceable, whether the other one may be replaced.
    """

    def __init__(self, message: str, free: str, replaceable: bool):
        super().__init__(message)
        self.details = {"free": free, "replaceable": replaceable}


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """A model that was found: its card, its folder, and whether it came with the software."""

    card: ModelCard
    folder: Path
    bundled: bool

    def load(self) -> tuple[ModelCard, dict[str, np.ndarray]]:
        """Read the weights too, verified; see `load_model`."""
        return load_model(self.folder)


def default_user_folder() -> Path:
    """Where the user's models lie: SSLFEWSHOT_MODELS, else the platform's folder for application data."""
    return application_folder("SSLFEWSHOT_MODELS", "models")


def application_folder(variable: str, name: str) -> Path:
    """The folder that an environment variable names, else `name` in the platform's folder for application data."""
    chosen = os.environ.get(variable, "")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base, usual = os.environ.get("LOCALAPPDATA", ""), Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base, usual = "", Path.home() / "Library" / "Application Support"
    else:
        base, usual = os.environ.get("XDG_DATA_HOME", ""), Path.home() / ".local" / "share"
    # The XDG specification has relative paths ignored.
    return (Path(base) if os.path.isabs(base) else usual) / "sslfewshot" / name


def default_bundled_folder() -> Path:
    """Where the models that come with the software lie.

    Installed, that is `bundled` in the package; in a checkout it is `Resources/Models`, from which the
    installation takes them.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "bundled"
    return installed if installed.is_dir() else package.parent.parent / "Resources" / "Models"


class ModelStore:
    """Bundled models, which are only read, and the user's, each in a folder with the name on its card.

    user_folder, bundled_folder: None for the usual ones (`default_user_folder`, `default_bundled_folder`).
    The user's folder is made when the first model comes in.
    """

    def __init__(self, user_folder: Path | None = None, bundled_folder: Path | None = None):
        self.user_folder = default_user_folder() if user_folder is None else Path(user_folder)
        self.bundled_folder = default_bundled_folder() if bundled_folder is None else Path(bundled_folder)

    def list(self) -> list[ModelEntry]:
        """All models by name, bundled ones first. Broken ones are left out with an InputWarning."""
        entries: dict[str, ModelEntry] = {}
        for folder, bundled in self._folders():
            try:
                if folder.name in entries:
                    raise InputError(f"{folder}: a bundled model has this name too; rename folder and card")
                entries[folder.name] = self._entry(folder, bundled)
            except InputError as error:
                warnings.warn(f"left out a model: {error}", InputWarning, stacklevel=2)
        return [*entries.values()]

    def find(self, name_or_dir: str | Path) -> ModelEntry:
        """The model of that name in the store, or the one in that folder.

        Raises UnknownModelError when there is none, naming those there are; InputError when its card is not valid.
        """
        for folder, bundled in self._folders():
            if folder.name == str(name_or_dir):
                return self._entry(folder, bundled)
        folder = Path(name_or_dir)
        if str(name_or_dir) and os.path.isdir(folder):
            bundled = folder.resolve().parent == self.bundled_folder.resolve()
            return ModelEntry(read_card(folder), folder, bundled)
        raise UnknownModelError(self._unknown(str(name_or_dir)))

    def add(self, folder: Path, overwrite: bool = False, name: str | None = None) -> ModelEntry:
        """Copy the model in `folder` into the store; name: that its card gets, None for the one it has.

        Raises InputError when it is not valid; NameTakenError when the name is a bundled model's, or it is there
        already and `overwrite` is not set.
        """
        folder = Path(folder)
        card = _renamed(load_model(folder)[0], name)
        target = self._target(card.name, str(folder), overwrite)
        if target.exists() and target.samefile(folder):
            raise InputError(f"{folder}: lies in the store already; there is nothing to add")

        def write(staged: Path) -> None:
            for file in MODEL_FILES:
                if (folder / file).exists():
                    shutil.copyfile(plain_file(folder, file), staged / file)
            _write_name(staged, name)
            load_model(staged)  # what was copied is what was checked

        place_model(target, write, overwrite)
        return ModelEntry(card, target, bundled=False)

    def remove(self, name: str) -> None:
        """Remove a model of the user's, broken ones too; files that are not the model's are left there.

        Raises InputError when there is none of that name or it is a bundled one.
        """
        folder = next((folder for folder in _models_in(self.user_folder) if folder.name == name), None)
        if folder is None:
            if any(folder.name == name for folder in _models_in(self.bundled_folder)):
                raise InputError(f"{name}: comes with the software and cannot be removed; only your own can")
            raise UnknownModelError(self._unknown(name))
        try:
            if folder.is_symlink():
                folder.unlink()
                return
            for file in MODEL_FILES:  # the card first: without it there is no model
                (folder / file).unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
        except OSError as error:
            raise OutputError(
                error.errno, f"{folder}: could not be removed ({error.strerror or error})"
            ) from error

    def export(self, name: str | Path, archive_path: Path, overwrite: bool = False) -> None:
        """Write a model, verified, as a zip archive that `import_archive` reads; same model, same bytes.

        Raises InputError when the model is not valid or the archive exists and `overwrite` is not set.
        """
        entry = self.find(name)
        entry.load()
        write_archive(entry.folder, Path(archive_path), overwrite)

    def import_archive(self, archive_path: Path, overwrite: bool = False, name: str | None = None) -> ModelEntry:
        """Take the model in a zip archive into the store; name: that its card gets, None for the one it has.

        Raises InputError when the archive holds anything but one valid model; NameTakenError as `add` does.
        """
        card, contents = read_archive(Path(archive_path))
        card = _renamed(card, name)
        target = self._target(card.name, str(archive_path), overwrite)

        def write(staged: Path) -> None:
            for file, content in contents.items():
                (staged / file).write_bytes(content)
            _write_name(staged, name)
            load_model(staged)

        place_model(target, write, overwrite)
        return ModelEntry(card, target, bundled=False)

    @staticmethod
    def suits(card: ModelCard, modality: str | None) -> str | None:
        """A sentence of warning when `card` was made for another modality than `modality`, else None.

        modality: a DICOM code such as "CT"; None, "" or "any" when it is not known.
        """
        made_for = card.preprocessing["modality"]
        given = (modality or "any").strip()
        if "any" in (made_for.lower(), given.lower()) or made_for.lower() == given.lower():
            return None
        return (
            f"{card.name} was made for {made_for} and the scan is {given}: expect poor results, "
            f"and rather choose a model made for {given}"
        )

    def _folders(self) -> Iterator[tuple[Path, bool]]:
        """(folder, bundled) of every model, broken or not, bundled ones first."""
        yield from ((folder, True) for folder in _models_in(self.bundled_folder))
        yield from ((folder, False) for folder in _models_in(self.user_folder))

    def _entry(self, folder: Path, bundled: bool) -> ModelEntry:
        card = read_card(folder)
        if card.name != folder.name:
            raise InputError(
                f"{folder / CARD_FILE}: field name: {card.name} is not its folder's name; rename the folder to it"
            )
        return ModelEntry(card, folder, bundled)

    def _target(self, name: str, source: str, overwrite: bool) -> Path:
        """The folder in which a model of that name goes, once it may."""
        check_name(name, source)
        target = self.user_folder / name
        if (self.bundled_folder / name / CARD_FILE).exists():
            raise NameTakenError(
                f"{source}: its name {name} is a bundled model's; give it another one",
                self._free_name(name),
                replaceable=False,
            )
        if is_model(target) and not overwrite:
            raise NameTakenError(
                f"{source}: the store has a model {name} already; replace it (overwrite), or choose another name",
                self._free_name(name),
                replaceable=True,
            )
        return target

    def _free_name(self, name: str) -> str:
        taken = {folder.name for folder, _ in self._folders()}
        return next(free for n in itertools.count(2) if (free := f"{name[:76]}-{n}") not in taken)

    def _unknown(self, name: str) -> str:
        names = [folder.name for folder, _ in self._folders()]
        close = difflib.get_close_matches(name, names, n=3)
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        there = f"there are {', '.join(names)}" if names else "the store is empty"
        return f"{name}: no model of this name or folder ({there}){meant}"


def _renamed(card: ModelCard, name: str | None) -> ModelCard:
    return card if name is None else dataclasses.replace(card, name=name)


def _write_name(folder: Path, name: str | None) -> None:
    """Give the card in a folder another name; weights know none."""
    if name is not None:
        (folder / CARD_FILE).write_bytes(_renamed(read_card(folder), name).to_bytes())


def _models_in(root: Path) -> list[Path]:
    """The folders in `root` that hold a model, broken or not; what a broken-off writing left is hidden."""
    if not root.is_dir():
        return []
    return sorted(folder for folder in root.iterdir() if not folder.name.startswith(".") and is_model(folder))
