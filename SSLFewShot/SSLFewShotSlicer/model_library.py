"""A model's card as text for the panel."""

import html

from SSLFewShotSlicer.translation import _


def origin_of(card):
    """Where a model comes from, in a word or two."""
    return _("built in") if card.get("bundled") else _("yours")


def modality_of(card):
    """What kind of scans a model was trained on."""
    modality = card.get("preprocessing", {}).get("modality", "any")
    return _("any") if modality == "any" else modality


def card_html(card):
    """What the user should know about a model before using it."""
    training = card.get("training", {})
    rows = [
        (_("Made for"), _made_for(card)),
        (_("Trained on"), "<br>".join(_source(source) for source in training.get("data", [])) or _("unknown")),
        (_("Training"), _effort(training)),
        (_("Measured"), _measured(card.get("metrics", {}))),
        (_("Weights"), _weights(card)),
        (_("Licence"), html.escape(str(card.get("licence", "")) or _("unknown"))),
        (_("Made"), html.escape(_made(card))),
    ]
    body = "".join(
        f'<tr><td style="padding:2px 12px 2px 0; color:rgb(128,128,128)">{title}</td>'
        f'<td style="padding:2px 0">{value}</td></tr>'
        for title, value in rows
        if value
    )
    return (
        f"<b>{html.escape(str(card.get('title') or card.get('name', '')))}</b>"
        f"<p style='margin:4px 0'>{html.escape(str(card.get('description', '')))}</p>"
        f"<table cellspacing='0' cellpadding='0'>{body}</table>"
    )


def _made_for(card):
    preparation = card.get("preprocessing", {})
    spacing = preparation.get("spacing_mm")
    extent = card.get("extent", {})
    parts = [modality_of(card)]
    if extent.get("unit") == "mm" and extent.get("scale"):
        parts.append(_("structures seen within {size:g} mm").format(size=float(extent["scale"])))
    if spacing:
        parts.append(_("at {spacing:.2g} mm").format(spacing=float(spacing)))
    return html.escape(", ".join(parts))


def _source(source):
    text = _("{scans} scans of {name}").format(scans=source.get("scans", "?"), name=source.get("name", "?"))
    details = [source.get("source"), source.get("licence")]
    text += "".join(f"; {detail}" for detail in details if detail)
    return html.escape(text)


def _effort(training):
    parts = []
    if training.get("iterations"):
        parts.append(_("{number:,} iterations").format(number=int(training["iterations"])))
    if training.get("minutes"):
        parts.append(_("{minutes:g} min").format(minutes=float(training["minutes"])))
    if training.get("device"):
        parts.append(str(training["device"]))
    return html.escape(", ".join(parts))


def _measured(metrics):
    name = str(metrics.get("control_metric", "")).replace("_", " ")
    if not name or "held_out" not in metrics:
        others = [
            f"{key.replace('_', ' ')} {value}" for key, value in metrics.items() if isinstance(value, (int, float))
        ]
        return html.escape(", ".join(others))
    text = _("{name} {value:.3g} on scans held back").format(name=name, value=float(metrics["held_out"]))
    if "chance" in metrics:
        text += _(" (guessing: {value:.3g})").format(value=float(metrics["chance"]))
    return html.escape(text)


def _weights(card):
    parameters = card.get("architecture", {}).get("parameters")
    size = (card.get("weights") or {}).get("bytes")
    parts = []
    if parameters:
        parts.append(_("{number:,} parameters").format(number=int(parameters)))
    if size:
        parts.append(_("{size:.1f} MB").format(size=size / 1e6))
    return html.escape(", ".join(parts))


def _made(card):
    version = card.get("versions", {}).get("sslfewshot", "")
    made = str(card.get("created", ""))[:10]
    return _("{date}, with version {version}").format(date=made, version=version) if version else made
