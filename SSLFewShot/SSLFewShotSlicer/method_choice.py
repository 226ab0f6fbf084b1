"""The choice of method and model in the section "Segment": only what goes together, and what the worker has."""

from collections import namedtuple

from SSLFewShotSlicer.section import PanelPart, show_entries
from SSLFewShotSlicer.translation import _

Method = namedtuple("Method", "title help kinds")
"""kinds: of models that it can use, in the order in which the library takes them by itself; None for all, and for
what needs no training."""

ENCODERS = ("cpc", "rpl", "jigsaw", "rotation", "exemplar", "sides")
"""Kinds of models that a network is fine-tuned from."""

FINE_TUNING, TUNED = "finetune", "finetune"
"""The method, and the kind of the models that come of it."""

METHODS = {
    "aligned": Method(
        "Alignment",
        "Carries the marks over by deforming the marked scan, as a DENSE or ALPNET model sees both.",
        ("dense", "alpnet"),
    ),
    "prototype": Method(
        "Prototypes (ALPNet)",
        "Compares each place with averages of the marked ones, as a DENSE or ALPNET model sees them.",
        ("dense", "alpnet"),
    ),
    "knn": Method("Nearest neighbours", "Compares place by place; takes any model.", None),
    FINE_TUNING: Method(
        "Fine-tuning",
        "Trains a network on the marked scans for the time below, from the model on, and segments with it. "
        "Best with several marked scans.",
        ("dense", "alpnet", *ENCODERS, TUNED),
    ),
    "tuned": Method(
        "Fine-tuned model",
        "Segments with a network that was fine-tuned and kept; of the marked scan only the names count.",
        (TUNED,),
    ),
}
"""Methods that the panel offers, beside automatic, where the worker has them."""

NOT_FOR_VECTORS = ("slice-order", "slice-rotation", *ENCODERS, TUNED)
"""Kinds of models that find where something is, or are to be fine-tuned, and describe no single place."""

UNTRAINED = ("xavier+gvdiff", "gvdiff", "mind")


_WITH_SPEEDS = ("", "aligned")
"""Methods that have speeds, automatic among them where it aligns."""
_BALANCED = "balanced"


class MethodChoice(PanelPart):
    """Two lists that follow each other: a method offers the models that it can use."""

    def __init__(self, panel):
        super().__init__(panel)
        self._cards = []
        self._filling = False
        self.ui.methodSelector.connect("currentIndexChanged(int)", self._on_method)
        self.ui.modelSelector.connect("currentIndexChanged(int)", self._on_model)
        self.ui.speedSelector.connect("currentIndexChanged(int)", self._on_speed)

    def refresh(self):
        """Show the choices as they are."""
        self._fill()

    def settings(self):
        """The settings of the chosen method that the panel has."""
        if self.parameters.method == FINE_TUNING:
            kept = self.parameters.tuning_keep.strip()
            return {"minutes": float(self.parameters.tuning_minutes), **({"keep": kept} if kept else {})}
        speed = self.parameters.speed
        return {"speed": speed} if speed and self.parameters.method in _WITH_SPEEDS else {}

    def take(self, cards):
        """Offer these models."""
        self._cards = list(cards)
        if self.parameters is not None:
            self._fill()

    def ready(self):
        """What is missing for the chosen method, as a sentence; "" when nothing is."""
        name = self.parameters.method
        method = METHODS.get(name)
        # Fine-tuning can do without: it begins with random weights then.
        if (
            method is None
            or method.kinds is None
            or self.parameters.model
            or not self._cards
            or name == FINE_TUNING
        ):
            return ""
        if name == "tuned":
            return _("Choose the fine-tuned model first")
        if any(card.get("method") in method.kinds for card in self._cards):
            return ""
        return _("{method} needs a model of the kind {kind}: import one in Models, or learn one first").format(
            method=_(method.title), kind=_(" or ").join(kind.upper() for kind in method.kinds)
        )

    def _fill(self):
        parameters = self.parameters
        known = (self.session.info or {}).get("segmenters", METHODS)
        methods = [("", _("Automatic"))]
        methods += [
            (name, _(METHODS[name].title)) for name in METHODS if name in known or name == parameters.method
        ]
        models = [("", _("Automatic")), *self._models(parameters.method)]
        if parameters.model not in [name for name, _title in models]:
            models.append((parameters.model, parameters.model))
        self._filling = True
        show_entries(self.ui.methodSelector, methods, parameters.method)
        show_entries(self.ui.modelSelector, models, parameters.model)
        speeds = [
            ("fast", _("Fast")),
            (_BALANCED, _("Balanced")),
            ("best", _("Best (trains for some minutes first)")),
        ]
        show_entries(self.ui.speedSelector, speeds, parameters.speed or _BALANCED)
        self._filling = False
        for widget in (self.ui.speedSelectorLabel, self.ui.speedSelector):
            widget.visible = parameters.method in _WITH_SPEEDS
        self.ui.methodHint.text = self._hint()
        minutes = (self.ui.tuningMinutesLabel, self.ui.tuningMinutesSpin)
        for widget in (*minutes, self.ui.tuningKeepLabel, self.ui.tuningKeepEdit):
            widget.visible = parameters.method == FINE_TUNING

    def _hint(self):
        method = METHODS.get(self.parameters.method)
        return (
            _(method.help) if method else _("Aligns where a DENSE model fits the scan, else compares neighbours.")
        )

    def _models(self, method):
        """[(name, title)] of what a method can use."""
        kinds = METHODS[method].kinds if method in METHODS else None
        if kinds is None:
            cards = [card for card in self._cards if card.get("method") not in NOT_FOR_VECTORS]
        else:
            cards = [card for kind in kinds for card in self._cards if card.get("method") == kind]
        found = [(card["name"], card.get("title") or card["name"]) for card in cards]
        if kinds is None:
            found += [(name, _("{name} (needs no training)").format(name=name)) for name in UNTRAINED]
        return found

    def _on_method(self, _index):
        if self._filling or self.parameters is None:
            return
        method = str(self.ui.methodSelector.currentData or "")
        modifying = self.parameters.StartModify()
        self.parameters.method = method
        # A model that the method cannot use gives way to the one that measured best of those that fit the scan.
        if self.parameters.model not in [name for name, _title in self._models(method)]:
            self.parameters.model = ""
        self.parameters.EndModify(modifying)

    def _on_speed(self, _index):
        if not self._filling and self.parameters is not None:
            speed = str(self.ui.speedSelector.currentData or "")
            self.parameters.speed = "" if speed == _BALANCED else speed

    def _on_model(self, _index):
        if not self._filling and self.parameters is not None:
            self.parameters.model = str(self.ui.modelSelector.currentData or "")
