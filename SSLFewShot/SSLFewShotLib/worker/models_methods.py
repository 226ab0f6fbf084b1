"""Methods on models: list, show, import, export, remove, and which ones fit a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from SSLFewShotLib.worker.handler import FLAG, PATH, TEXT, Context, Handler, optional, required

if TYPE_CHECKING:
    from SSLFewShotLib.models import ModelEntry


def _listed(params: dict[str, Any], context: Context) -> list[dict[str, Any]]:
    from SSLFewShotLib.models import ModelStore

    return [_shown(entry) for entry in ModelStore().list()]


def _show(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.models import ModelStore

    return _shown(ModelStore().find(params["name"]))


def _import(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.models import ModelStore

    store, archive = ModelStore(), Path(params["archive"])
    take = store.add if archive.is_dir() else store.import_archive
    return _shown(take(archive, overwrite=params["overwrite"], name=params["name"]))


def _export(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.models import ModelStore

    ModelStore().export(params["name"], Path(params["archive"]), overwrite=params["overwrite"])
    return {"archive": params["archive"]}


def _remove(params: dict[str, Any], context: Context) -> dict[str, Any]:
    from SSLFewShotLib.models import ModelStore

    ModelStore().remove(params["name"])
    return {"removed": params["name"]}


def _fitting(params: dict[str, Any], context: Context) -> list[str]:
    from SSLFewShotLib.imaging.files import read_volume
    from SSLFewShotLib.segmentation.choice import fitting_models

    context.progress(0.0, "reading the scan")
    volume = read_volume(params["image"], context.progress)
    return [card.name for card in fitting_models(volume)]


def _shown(entry: ModelEntry) -> dict[str, Any]:
    return {**entry.card.to_dict(), "bundled": entry.bundled}


HANDLERS = {
    "models/list": Handler(_listed, light=True),
    "models/show": Handler(_show, {"name": required(TEXT)}, light=True),
    "models/import": Handler(
        _import, {"archive": required(PATH), "overwrite": optional(FLAG, False), "name": optional(TEXT)}
    ),
    "models/export": Handler(
        _export, {"name": required(TEXT), "archive": required(PATH), "overwrite": optional(FLAG, False)}
    ),
    "models/remove": Handler(_remove, {"name": required(TEXT)}),
    "models/fitting": Handler(_fitting, {"image": required(PATH)}),
}
