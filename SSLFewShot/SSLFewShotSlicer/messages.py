"""`Message`: a sentence in the panel, where the user is looking, instead of a window that has to be closed."""

import html

INFORMATION, SUCCESS, WARNING, ERROR = "information", "success", "warning", "error"

# Translucent, so that they suit light and dark.
_COLOURS = {
    INFORMATION: ((52, 120, 200), "i"),
    SUCCESS: ((56, 158, 100), "✓"),
    WARNING: ((214, 137, 16), "⚠"),
    ERROR: ((204, 62, 52), "✕"),
}


class Message:
    """Shows sentences in a label; hidden while there is nothing to say."""

    def __init__(self, label):
        self._label = label
        self.kind = None
        self.text = ""
        label.hide()

    def show(self, kind, text, more=(), answers=()):
        """Show a sentence, further ones below it as a list, and links: [(link, text)], see `question`."""
        lines = "".join(f"<br>• {_sentence(line)}" for line in more)
        self._show(kind, text, _sentence(text) + lines + _links(answers))

    def error(self, text):
        """Say what went wrong and what to do."""
        self.show(ERROR, text)

    def warning(self, text, more=()):
        """Say what the user should know before trusting a result."""
        self.show(WARNING, text, more)

    def information(self, text):
        """Say what happens."""
        self.show(INFORMATION, text)

    def success(self, text, more=(), answers=()):
        """Say that it is done, and what can be done next."""
        self.show(SUCCESS, text, more, answers)

    def question(self, text, answers):
        """Ask; answers: [(link, text)], which the label's linkActivated tells."""
        self.show(WARNING, text, answers=answers)

    def clear(self):
        """Say nothing any more."""
        self.kind, self.text = None, ""
        self._label.hide()

    def _show(self, kind, text, body):
        colour, sign = _COLOURS[kind]
        rgb = ",".join(str(channel) for channel in colour)
        self.kind, self.text = kind, str(text)
        # Tables instead of a style sheet: text keeps the colour of the palette, whichever is chosen meanwhile.
        self._label.text = (
            '<table width="100%" cellspacing="0" cellpadding="0"><tr>'
            f'<td width="4" style="background-color:rgb({rgb})"></td>'
            f'<td style="background-color:rgba({rgb},34)"><table cellspacing="0" cellpadding="6"><tr>'
            f'<td style="color:rgb({rgb})"><b>{sign}</b></td><td>{body}</td></tr></table></td></tr></table>'
        )
        self._label.show()
        _fit_text(self._label)


def _fit_text(label):
    """Make a label as high as its wrapped text: Slicer's module panel does not ask for it."""
    parent = label.parentWidget()
    # Before it is laid out, its width means nothing.
    laid_out = parent is not None and parent.isVisible()
    label.minimumHeight = max(0, label.heightForWidth(parent.width - label.x)) if laid_out else 0


def _links(answers):
    links = " &nbsp;·&nbsp; ".join(f'<a href="{link}">{html.escape(answer)}</a>' for link, answer in answers)
    return f"<br>{links}" if links else ""


def _sentence(text):
    """Text as HTML, starting large and ending with a full stop."""
    text = str(text).strip()
    if text and text[-1] not in ".!?…:":
        text += "."
    return html.escape(text[:1].upper() + text[1:]) if _starts_a_word(text) else html.escape(text)


def _starts_a_word(text):
    """Whether the text starts with a plain word, not with the name of a file, node or model (`CT_1: …`)."""
    first = text.split(" ")[0]
    return ":" not in first and first.rstrip(",;").isalpha()
