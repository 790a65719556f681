"""Batches drawn ahead: the same items in the same order, errors, and no thread left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonesieve.learning.data.prefetch import prefetch_thread


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(), max_size=12))
def test_prefetched_items_are_the_same(items: list[int]) -> None:
    with prefetch_thread(iter(items)) as drawn:
        assert list(drawn) == items


def test_errors_are_raised_where_the_item_is_taken() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with prefetch_thread(failing()) as drawn:
        assert next(drawn) == 1
        with pytest.raises(ValueError, match="no more"):
            next(drawn)


def test_stopping_early_leaves_no_thread() -> None:
    with prefetch_thread(iter(range(10**9))) as drawn:
        assert next(drawn) == 0
    assert not [t for t in threading.enumerate() if t.name == "batches"]
