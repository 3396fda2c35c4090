"""Request ids: given once, and forgotten at the server only when they are answered."""

from blockyard.client.metadata.request_window import RequestWindow
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(0, 30), max_size=200))
def test_the_server_never_forgets_an_answer_that_is_still_awaited(plan: list[int]) -> None:
    window = RequestWindow(7, limit=16)
    open_ones: list[int] = []
    given_out = 0
    for step in plan:
        if step % 2 and open_ones:
            window.end(open_ones.pop(step % len(open_ones)))
        elif not window.is_full:
            identity = window.begin()
            given_out += 1
            assert (identity.session, identity.sequence) == (7, given_out)
            assert identity.answered_below == min(open_ones, default=given_out)
            open_ones.append(identity.sequence)
        assert window.under_way == len(open_ones)
        assert window.is_full == (given_out + 1 - min(open_ones, default=given_out + 1) >= 16)
