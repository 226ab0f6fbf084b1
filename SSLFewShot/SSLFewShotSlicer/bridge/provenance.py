"""How a result was made, as attributes that are saved with its node."""

from __future__ import annotations

import json

PREFIX = "SSLFewShot."


def provenance_of(report: dict) -> dict[str, str]:
    """The attributes of a result from the worker's report of it; names of scans are not among them."""
    made_by = report.get("made_by", {})
    segmenter = report.get("segmenter", {})
    descriptor = segmenter.get("descriptor", {})
    supports = report.get("support", [])
    texts = {
        "Version": made_by.get("versions", {}).get("sslfewshot", ""),
        "Versions": _json(made_by.get("versions", {})),
        "Date": made_by.get("date", ""),
        "Device": str(report.get("device", "")),
        "Method": str(segmenter.get("method", "")),
        "Model": str(descriptor.get("name", "")),
        "Descriptor": _json(descriptor),
        "Settings": _json(segmenter.get("settings", {})),
        "Supports": str(len(supports)),
        "Segments": ", ".join(segment.get("name", "") for segment in report.get("segments", [])),
    }
    return {PREFIX + key: text for key, text in texts.items() if text}


def _json(value) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else ""
