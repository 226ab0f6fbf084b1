"""The forms that Qt Designer made."""

from xml.etree import ElementTree

import pytest

from panel_scene import ROOT

FORMS = sorted((ROOT / "Resources" / "UI").glob("*.ui"))


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_nothing_of_a_collapsed_part_is_left_over(form):
    # ctkCollapsibleButton and ctkCollapsibleGroupBox leave an empty bar of 14 and 10 pixels by themselves.
    for widget in ElementTree.parse(form).iter("widget"):
        if widget.get("class").startswith("ctkCollapsible"):
            height = widget.find("property[@name='collapsedHeight']/number")
            assert height is not None and height.text == "0", widget.get("name")


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_every_widget_has_a_name_of_its_own_over_all_forms(form):
    names = [widget.get("name") for path in FORMS for widget in ElementTree.parse(path).iter("widget")]
    mine = {widget.get("name") for widget in ElementTree.parse(form).iter("widget")}
    assert not [name for name in mine if names.count(name) > 1]
