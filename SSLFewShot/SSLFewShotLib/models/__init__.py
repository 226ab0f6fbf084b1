"""Models: the card, the folder of card and weights, the archive, the store. No torch here."""

from SSLFewShotLib.models.card import ModelCard, installed_versions
from SSLFewShotLib.models.folder import load_model, save_model
from SSLFewShotLib.models.store import ModelEntry, ModelStore, NameTakenError, UnknownModelError

__all__ = [
    "ModelCard",
    "ModelEntry",
    "ModelStore",
    "NameTakenError",
    "UnknownModelError",
    "installed_versions",
    "load_model",
    "save_model",
]
