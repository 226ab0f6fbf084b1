"""`ModelCard`: what a model is, what it was trained on and how it must be used, as `card.json`."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import re
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.version import __version__

CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"
SCHEMA_VERSION = 1
MAX_CARD_BYTES = 1 << 20

# Windows takes these for devices, whatever follows the first dot.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
_REMEDY = "correct the card or get the model again"


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """The card of a model; `card.schema.json` says field by field what it may hold.

    name: a-z, 0-9, dot, dash and underscore, at most 80 characters; the model's folder in the store.
    method: the pretext task or descriptor, e.g. "heatmap".
    architecture: name, branches (e.g. axis names), parameters (count), settings.
    preprocessing: modality (DICOM code or "any"), intensity (kind and its numbers), spacing_mm (or None).
    extent: unit ("mm" or "normalised"), patch and further sizes in that unit.
    training: data (name, source, licence, scans), iterations, minutes, device, seed, settings.
    versions: at least sslfewshot, python, torch and numpy; see `installed_versions`.
    licence: of the weights. created: ISO 8601 UTC.
    weights: file, sha256 and bytes; `save_model` fills it in, None before that.

    Numpy numbers, small arrays and tuples may stand in the free fields; they are kept as plain JSON.
    """

    name: str
    title: str
    description: str
    method: str
    architecture: dict[str, Any]
    preprocessing: dict[str, Any]
    extent: dict[str, Any]
    training: dict[str, Any]
    versions: dict[str, str]
    licence: str
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    created: str = dataclasses.field(default_factory=_now)
    weights: dict[str, Any] | None = None
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_dict(cls, values: Any, source: Path | str) -> ModelCard:
        """Make a card of decoded JSON; `source` is the file that error messages name.

        Raises InputError when a field is missing, unknown or wrong.
        """
        return cls(**_validated(values, str(source)))

    @classmethod
    def from_bytes(cls, content: bytes, source: Path | str) -> ModelCard:
        """Make a card of the content of a `card.json`. Raises InputError as `from_dict` does."""
        if len(content) > MAX_CARD_BYTES:
            raise InputError(f"{source}: larger than {MAX_CARD_BYTES >> 20} MiB, not a model card; {_REMEDY}")
        try:
            values = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_repetition)
        except RecursionError:
            raise InputError(f"{source}: nested too deeply for a model card; {_REMEDY}") from None
        except ValueError as error:
            raise InputError(f"{source}: not a readable JSON card ({_one_line(str(error))}); {_REMEDY}") from error
        return cls.from_dict(values, source)

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON values. Raises InputError when a field is missing or wrong."""
        return _validated(dataclasses.asdict(self), f"card of {_short(self.name)}")

    def to_bytes(self) -> bytes:
        """The content of `card.json`, UTF-8. Raises InputError when a field is missing or wrong."""
        content = (json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n").encode()
        if len(content) > MAX_CARD_BYTES:
            raise InputError(
                f"card of {_short(self.name)}: larger than {MAX_CARD_BYTES >> 20} MiB; shorten settings or metrics"
            )
        return content


def check_name(name: str, source: Path | str) -> None:
    """Raise InputError unless `name` can name a model, and its folder on every system."""
    pattern = _schema()["properties"]["name"]["pattern"]
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        raise InputError(
            f"{source}: field name: {_short(name)} is not a model name; use at most 80 of a-z, 0-9, dot, dash and "
            "underscore, a letter or digit first and no dot last"
        )
    if name.split(".")[0] in _RESERVED:
        raise InputError(f"{source}: field name: {name} is a reserved name on Windows; choose another")


def installed_versions() -> dict[str, str]:
    """The versions that a card names, found without importing torch."""
    versions = {"sslfewshot": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "SimpleITK", "safetensors"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


@functools.cache
def _schema() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("card.schema.json").read_text(encoding="utf-8"))


@functools.cache
def _validator() -> jsonschema.protocols.Validator:
    def whole_pattern(validator, pattern, instance, schema):
        # Python's $ also matches before a line end at the end of a text, JSON Schema's does not.
        if isinstance(instance, str) and not re.fullmatch(pattern, instance):
            yield jsonschema.ValidationError(f"does not match {pattern}")

    checks = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": whole_pattern})
    return checks(_schema())


def _validated(values: Any, source: str) -> dict[str, Any]:
    """`values` as plain JSON values that satisfy the schema, or InputError."""
    values = _plain(values, source)
    if not isinstance(values, dict):
        raise InputError(f"{source}: expected a JSON object with the fields of a model card; {_REMEDY}")
    version = values.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:
        raise InputError(
            f"{source}: field schema_version: {_short(version)} is newer than {SCHEMA_VERSION}, the newest that "
            f"sslfewshot {__version__} reads; update sslfewshot"
        )
    if isinstance(values.get("name"), str):
        check_name(values["name"], source)
    try:
        errors = sorted(_validator().iter_errors(values), key=lambda e: (len(e.absolute_path), e.json_path))
    except RecursionError:
        raise InputError(f"{source}: nested too deeply for a model card; {_REMEDY}") from None
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(f"{source}: {_explained(errors[0])}{more}; {_REMEDY}")
    try:
        datetime.fromisoformat(values["created"][:19])
    except ValueError:
        raise InputError(
            f"{source}: field created: {_short(values['created'])} is no date and time; {_REMEDY}"
        ) from None
    return values


def _plain(values: Any, source: str) -> Any:
    """`values` as JSON reads them back: numpy numbers and tuples become plain, NaN is refused."""

    def default(value: Any) -> Any:
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        if isinstance(value, Path):
            return value.name  # the folders of the machine that trained are nobody's business
        raise TypeError(f"{type(value).__name__} is no JSON value")

    try:
        text = json.dumps(values, default=default, ensure_ascii=False, allow_nan=False)
        text.encode()
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{source}: nested too deeply for a model card; {_REMEDY}") from None
    except UnicodeEncodeError as error:
        raise InputError(f"{source}: holds text that is not valid Unicode; {_REMEDY}") from error
    except ValueError as error:
        raise InputError(f"{source}: holds a number that is not finite; leave it out or give null") from error
    except TypeError as error:
        raise InputError(f"{source}: {error}; use numbers, texts, lists and objects") from error


def _without_repetition(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"field {_short(key)} is given twice")
        values[key] = value
    return values


def _explained(error: jsonschema.ValidationError) -> str:
    """A schema error as "field a.b[0]: what is wrong"."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    field = _one_line(path.removeprefix("."))
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"field {f'{field}.{missing}'.removeprefix('.')} is missing"
    if error.validator == "additionalProperties" and error.validator_value is False:
        unknown = min(set(error.instance) - set(error.schema["properties"]))
        return f"field {_one_line(f'{field}.{unknown}'.removeprefix('.'))} is unknown"
    expected = {
        "type": lambda wanted: f"expected {wanted if isinstance(wanted, str) else ' or '.join(wanted)}",
        "enum": lambda wanted: f"expected one of {', '.join(wanted)}",
        "const": lambda wanted: f"expected {wanted}",
        "pattern": lambda wanted: f"expected text of the form {wanted}",
    }.get(error.validator)
    if expected is None:
        return f"field {field}: {_one_line(error.message)}"
    return f"field {field}: {expected(error.validator_value)}, found {_short(error.instance)}"


def _short(value: Any) -> str:
    return _one_line(json.dumps(value, ensure_ascii=False), 60)


def _one_line(text: str, length: int = 160) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= length else text[: length - 1] + "…"
