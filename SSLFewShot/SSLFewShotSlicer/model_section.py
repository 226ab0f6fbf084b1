"""The section "Models": what there is, what each was made for, and taking models in and out."""

import qt
import slicer

from SSLFewShotSlicer import dialogs
from SSLFewShotSlicer.bridge import JobFolder, take_volume
from SSLFewShotSlicer.jobs import DONE, FAILED, in_thread
from SSLFewShotSlicer.model_library import card_html, modality_of, origin_of
from SSLFewShotSlicer.section import Section, fit_height, plain_table
from SSLFewShotSlicer.translation import _

ARCHIVES = "SSLFewShot models (*.zip)"
RENAME_LINK, REPLACE_LINK = "rename", "replace"
TITLES = {
    "heatmap": "HEATMAP",
    "reg2d": "REG2D",
    "doersch": "DOERSCH",
    "dense": "DENSE",
    "alpnet": "ALPNET",
    "slice-order": "SLICE ORDER",
    "slice-rotation": "SLICE ROTATION",
    "cpc": "CPC",
    "rpl": "RPL",
    "jigsaw": "JIGSAW",
    "rotation": "ROTATION",
    "exemplar": "EXEMPLAR",
    "sides": "SIDES",
}


class ModelSection(Section):
    """Shows and manages the models."""

    form = "Model"
    message_label = "modelMessage"

    def set_up(self):
        ui = self.ui
        self.cards = []
        self._fitting = []
        self._offered = {}
        table = ui.modelTable
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        plain_table(table)
        table.connect("itemSelectionChanged()", self._show_card)
        ui.useModelButton.connect("clicked(bool)", lambda _checked: self.use())
        ui.fittingModelButton.connect("clicked(bool)", lambda _checked: self.find_fitting())
        ui.importModelButton.connect("clicked(bool)", lambda _checked: self.import_model())
        ui.exportModelButton.connect("clicked(bool)", lambda _checked: self.export())
        ui.removeModelButton.connect("clicked(bool)", lambda _checked: self.remove())
        ui.refreshModelsButton.connect("clicked(bool)", lambda _checked: self.load())
        ui.modelMessage.connect("linkActivated(QString)", self._on_link)
        ui.modelSection.connect("contentsCollapsed(bool)", self._on_collapsed)
        self._show_card()

    def refresh(self):
        ui, card = self.ui, self.chosen
        chosen = self.parameters.target_volume is not None
        self.offer(ui.fittingModelButton, "" if chosen else _("Choose the scan to segment first"))
        none = "" if card is not None else _("Choose a model from the list first")
        ui.useModelButton.enabled = not none
        self.offer(ui.exportModelButton, none)
        bundled = (
            _("A model that came with the software cannot be removed") if card and card.get("bundled") else ""
        )
        self.offer(ui.removeModelButton, none or bundled)
        for button in (ui.importModelButton, ui.refreshModelsButton):
            self.offer(button)

    @property
    def chosen(self):
        """The card of the chosen row, or None."""
        row = self.ui.modelTable.currentRow()
        return self.cards[row] if 0 <= row < len(self.cards) else None

    def load(self, choose=None):
        """Read the list of models; `choose` is the name of the one to choose then."""

        def steps(job):
            cards = yield self.session.request("models/list")
            return cards

        def show(job):
            if job.state == DONE and not self.closed:
                self._fill(job.result, choose)

        return self._run(_("reading the list of models"), steps, show)

    def use(self):
        """Take the chosen model for segmenting."""
        if self.chosen is not None and self.parameters is not None:
            self.parameters.model = self.chosen["name"]
            self.ui.advancedGroup.collapsed = False
            self.message.success(_("{model} is taken for the next Apply").format(model=self.chosen["name"]))

    def find_fitting(self):
        """Ask which models were made for scans like the one to segment."""
        target = self.parameters.target_volume

        def steps(job):
            source = take_volume(target)
            with JobFolder(slicer.app.temporaryPath) as folder:
                job.explain = folder.explain
                path = folder.file("scan", source.name)
                yield in_thread(source.write, path)
                names = yield self.session.request("models/fitting", {"image": str(path)})
            return source.name, names

        def show(job):
            if job.state == DONE and not self.closed:
                self._show_fitting(*job.result)

        return self._run(_("looking for fitting models"), steps, show)

    def import_model(self):
        """Add a model from a file."""
        archive = dialogs.choose_file(_("Import a model"), ARCHIVES)
        if archive:
            self._import({"archive": archive})

    def _import(self, params):
        def failed(job):
            # The name is taken: a click gives it another one, or replaces the model that has it.
            details = getattr(job.error, "data", None) or {}
            if "free" not in details:
                return
            self._offered = {
                RENAME_LINK: {**params, "name": details["free"]},
                REPLACE_LINK: {**params, "overwrite": True},
            }
            answers = [(RENAME_LINK, _("Import it as {name}").format(name=details["free"]))]
            if details.get("replaceable"):
                answers.append((REPLACE_LINK, _("Replace that model")))
            self.message.question(job.sentence, answers)

        self._change(
            _("importing a model"),
            "models/import",
            params,
            lambda card: (_("{model} was imported").format(model=card["name"]), card["name"]),
            failed,
        )

    def _on_link(self, link):
        offered, self._offered = self._offered, {}
        if link in offered:
            self._import(offered[link])

    def export(self):
        """Write the chosen model into a file."""
        card = self.chosen
        archive = dialogs.choose_new_file(_("Export the model"), f"{card['name']}.zip", ARCHIVES) if card else ""
        if archive:
            self._change(
                _("exporting a model"),
                "models/export",
                {"name": card["name"], "archive": archive, "overwrite": True},
                lambda answer: (
                    _("{model} was written to {file}").format(model=card["name"], file=archive),
                    card["name"],
                ),
            )

    def remove(self):
        """Delete the chosen model of the user's, after asking."""
        card = self.chosen
        question = _("Delete the model {model} for good?")
        if card is not None and dialogs.confirm(question.format(model=card["name"])):
            self._change(
                _("removing a model"),
                "models/remove",
                {"name": card["name"]},
                lambda answer: (_("{model} was deleted").format(model=card["name"]), None),
            )

    def _change(self, title, method, params, told, failed=None):
        def steps(job):
            answer = yield self.session.request(method, params)
            return answer

        def show(job):
            if job.state == DONE and not self.closed:
                sentence, choose = told(job.result)
                self.load(choose)
                self.message.success(sentence)
            elif job.state == FAILED and failed is not None:
                failed(job)

        self._run(title, steps, show)

    def _run(self, title, steps, show):
        def observe(job):
            if self.closed or not job.over:
                return
            if job.state == FAILED:
                self.message.error(job.sentence)
            show(job)

        self.message.clear()
        job = self.session.run(title, steps)
        self.panel.watch(job, observe)
        return job

    def _fill(self, cards, choose):
        chosen = choose or (self.chosen or {}).get("name")
        self.cards = list(cards)
        table = self.ui.modelTable
        table.setRowCount(len(self.cards))
        for row, card in enumerate(self.cards):
            method = TITLES.get(card.get("method"), str(card.get("method", "")))
            fits = card["name"] in self._fitting
            texts = (f"{card['name']}  ✓" if fits else card["name"], modality_of(card), method, origin_of(card))
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(_("Fits the scan to segment") if fits and column == 0 else text)
                font = item.font()
                font.setBold(fits and column == 0)
                item.setFont(font)
                table.setItem(row, column, item)
        fit_height(table, 8)
        rows = [row for row, card in enumerate(self.cards) if card["name"] == chosen]
        if self.cards:
            table.setCurrentCell(rows[0] if rows else 0, 0)
        self._show_card()
        self.panel.segment.methods.take(self.cards)
        self.panel.refresh_soon()

    def _show_fitting(self, scan, names):
        self._fitting = names
        self._fill(self.cards, names[0] if names else None)
        methods = {card["name"]: card.get("method") for card in self.cards}
        dense = [name for name in names if methods.get(name) == "dense"]
        if dense:
            self.message.success(
                _("{models}: made for scans like {scan}. Automatic takes {first}").format(
                    models=", ".join(names), scan=scan, first=dense[0]
                )
            )
        elif names:
            self.message.success(
                _("{models}: made for scans like {scan}. Automatic takes what suits any scan").format(
                    models=", ".join(names), scan=scan
                )
            )
        else:
            self.message.information(
                _(
                    "None was made for scans like {scan}; leave the model on automatic, which suits any scan"
                ).format(scan=scan)
            )

    def _show_card(self):
        card = self.chosen
        self.ui.modelCard.setHtml(card_html(card) if card is not None else "")
        if self.parameters is not None:
            self.refresh()

    def _on_collapsed(self, collapsed):
        if not collapsed and not self.cards and not self.panel.obstacle():
            self.load()
