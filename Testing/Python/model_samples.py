"""A small model and its card, and what the tests of card, folder, archive and store do with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.models import ModelCard, ModelStore, save_model


def a_card(name: str = "heatmap-head-neck-ct", **changes) -> ModelCard:
    values = {
        "name": name,
        "title": "HEATMAP, head and neck CT",
        "description": "Größe: 25 × 25",
        "method": "heatmap",
        "architecture": {
            "name": "D2D",
            "branches": ["k", "j", "i"],
            "parameters": 3,
            "settings": {"widths": (8, 16)},
        },
        "preprocessing": {
            "modality": "CT",
            "intensity": {"kind": "window", "low": -1000, "high": 1000},
            "spacing_mm": 2,
        },
        "extent": {"unit": "mm", "patch": [96.0, 96.0], "scale": 120.0},
        "training": {
            "data": [{"name": "HN", "source": "https://example.org", "licence": "CC-BY-4.0", "scans": 9}],
            "iterations": 100,
            "minutes": 0.5,
            "device": "cpu",
            "seed": 1,
            "settings": {"rate": np.float32(0.5)},
        },
        "metrics": {"held_out": {"accuracy": 0.5}, "note": "short"},
        "versions": {"sslfewshot": "0.1.0", "python": "3.11", "torch": "2.4", "numpy": "2.0"},
        "licence": "Apache-2.0",
    }
    return ModelCard(**{**values, **changes})


TENSORS = {
    "k/conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "k/batches": np.array(7, dtype=np.int64),
    "j/half": np.float16([0.5, -2]),
    "j/empty": np.zeros((0, 3), np.float32),
}


def saved_model(folder: Path) -> Path:
    folder = folder / "heatmap-head-neck-ct"
    save_model(folder, a_card(), TENSORS)
    return folder


def store_with_one_bundled_model(folder: Path) -> ModelStore:
    save_model(folder / "bundled" / "bundled-ct", a_card("bundled-ct"), TENSORS)
    return ModelStore(folder / "user", folder / "bundled")


def the_error(call, *arguments, kind=InputError, **options) -> str:
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    message = caught.value.strerror if isinstance(caught.value, OSError) else str(caught.value)
    assert message.isprintable() and message, "an error is one line"
    return message


def change_card(folder: Path, change) -> None:
    path = folder / "card.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def set_at(path: str, value):
    *above, last = path.split(".")

    def change(card):
        for part in above:
            card = card[int(part) if part.isdigit() else part]
        if value is KeyError:
            del card[last]
        else:
            card[last] = value

    return change
