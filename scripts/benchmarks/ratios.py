"""Two ways of doing the same thing, measured side by side, and what is made of the measurements."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One comparison. `ours` and `theirs` are the measurements in `unit`, in the order they were taken.

    A row `aside` is not one of the contract's: it shows how much an assumption of one of those is worth.
    With `paired`, ours[n] and theirs[n] were taken one right after the other, and the ratio is the median of the
    pairs' ratios: a machine that slows down for a while slows down both halves of a pair.
    """

    name: str
    against: str
    unit: str
    reach: float
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    paired: bool = True
    note: str = ""
    aside: bool = False

    def __post_init__(self) -> None:
        if not self.ours or not self.theirs or (self.paired and len(self.ours) != len(self.theirs)):
            raise ValueError(f"{self.name}: {len(self.ours)} measurements against {len(self.theirs)}")
        if min(self.theirs) <= 0:
            raise ValueError(f"{self.name}: nothing was measured on the other side")

    @property
    def ratio(self) -> float:
        """How much of their time, or room, ours takes."""
        if self.paired:
            return statistics.median(ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def spread(self) -> float:
        """How far the largest pair's ratio is from the smallest, as a share of the ratio; 0 without pairs."""
        if not self.paired:
            return 0.0
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return (max(ratios) - min(ratios)) / self.ratio

    @property
    def reached(self) -> bool:
        """Whether it is as good as it was to be."""
        return self.ratio <= self.reach

    def to_json(self) -> dict[str, Any]:
        """The row as it stands in bench.json."""
        return {
            "name": self.name,
            "against": self.against,
            "unit": self.unit,
            "ratio": round(self.ratio, 4),
            "reach": self.reach,
            "reached": self.reached,
            "aside": self.aside,
            "spread": round(self.spread, 3),
            "ours": [round(value, 4) for value in self.ours],
            "theirs": [round(value, 4) for value in self.theirs],
            "ours_median": round(statistics.median(self.ours), 4),
            "theirs_median": round(statistics.median(self.theirs), 4),
            "note": self.note,
        }

    def render(self) -> str:
        """The row for a reader."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        verdict = "aside, " * self.aside + ("reached" if self.reached else "NOT REACHED")
        return (
            f"{self.name}: {self.ratio:.3f} × (to reach: {self.reach:g} ×, {verdict})\n"
            f"    ours {ours:.3f} {self.unit}, {self.against} {theirs:.3f} {self.unit};"
            f" {len(self.ours)} measured, spread {100 * self.spread:.0f} %" + (f"; {self.note}" if self.note else "")
        )


def in_turns(
    ours: Callable[[], float], theirs: Callable[[], float], *, pairs: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure both `pairs` times, now this one first, now the other, so that neither always has the warmer cache."""
    measured: tuple[list[float], list[float]] = ([], [])
    for number in range(pairs):
        turns = ((0, ours), (1, theirs)) if number % 2 == 0 else ((1, theirs), (0, ours))
        for side, measure in turns:
            measured[side].append(measure())
    return tuple(measured[0]), tuple(measured[1])


def least(works: Callable[[int], bool], *, low: int, high: int) -> int:
    """The least number above `low` up to `high` that works, if all above one that works do; by halving.

    Raises `ValueError` when not even `high` works: then there is nothing to compare.
    """
    if not works(high):
        raise ValueError(f"it does not even work with {high}")
    while high - low > 1:
        middle = (low + high) // 2
        if works(middle):
            high = middle
        else:
            low = middle
    return high


def rows_to_json(rows: Sequence[Row], *, facts: dict[str, Any]) -> dict[str, Any]:
    """bench.json: the rows, and `facts` about the machine they were measured on."""
    return {"version": 1, **facts, "rows": [row.to_json() for row in rows]}
