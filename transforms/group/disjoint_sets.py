"""Disjoint sets that are joined in pairs (union-find)."""

from __future__ import annotations


class DisjointSets:
    """The sets of ``count`` items, numbered from 0, each alone at first."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))
        self._sizes = [1] * count

    def find(self, item: int) -> int:
        """The item that stands for the set of this one."""
        parents = self._parents
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    def size(self, item: int) -> int:
        """How many items are in the set of this one."""
        return self._sizes[self.find(item)]

    def join(self, left: int, right: int) -> bool:
        """Make one set of two; False where they are one already."""
        left, right = self.find(left), self.find(right)
        if left == right:
            return False
        if self._sizes[left] < self._sizes[right]:
            left, right = right, left
        self._parents[right] = left
        self._sizes[left] += self._sizes[right]
        return True
