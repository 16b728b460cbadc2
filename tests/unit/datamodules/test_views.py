import pytest

from datamodules.errors import InputError
from datamodules.views import ViewRequest, cut_to_length


def test_slug_names_view_truncation_and_length():
    assert ViewRequest("exchange", "head_tail", 256).slug == "exchange-head_tail-256"


@pytest.mark.parametrize(
    ("view", "truncation", "length", "text"),
    [
        ("turn", "head", 64, "view 'turn'"),
        ("dialogue", "middle", 64, "truncation 'middle'"),
        ("dialogue", "head", 4, "8"),
    ],
)
def test_unknown_views_are_told(view, truncation, length, text):
    with pytest.raises(InputError, match=text):
        ViewRequest(view, truncation, length)


@pytest.mark.parametrize(
    ("boundary", "room", "truncation", "expected"),
    [
        (0, 10, "head", [0, 1, 2, 3, 4, 5, 6, 7]),
        (0, 3, "head", [0, 1, 2]),
        (0, 3, "tail", [5, 6, 7]),
        (0, 5, "head_tail", [0, 1, 2, 6, 7]),
        (5, 6, "tail", [0, 1, 2, 5, 6, 7]),  # the context loses its end first, the focus stays whole
        (5, 3, "head", [5, 6, 7]),
        (5, 2, "head", [5, 6]),  # the focus alone is too long: no context is left
        (5, 2, "tail", [6, 7]),
    ],
)
def test_the_context_is_cut_before_the_focus(boundary, room, truncation, expected):
    assert cut_to_length(list(range(8)), boundary, room, truncation) == expected
