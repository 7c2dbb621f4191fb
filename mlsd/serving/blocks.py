"""Who must not be suggested to whom: kept under one key a block, and looked up after the list was read.

A list that was made at night, copied into a cache or ranked a second ago may hold somebody whom the reader has blocked
meanwhile, or who has blocked the reader. So blocks are not taken out where lists are made alone, but once more at the very end:

    blocks.block(7, 12)                             # 7 blocks 12; on return it holds, and survives a kill
    suggestions(store, blocks, user_id=12, k=10)    # without 7: it holds in both directions

Two promises, whoever writes and reads at the same time. A read that begins after `block` returned shows neither to the other,
because the look-up comes after the list. And no block is lost to another one made at the same moment, because each has a key of
its own: one record with all blocks of a member, read, changed and written back, would lose one of two.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlsd.serving.backends import KeyValue
from mlsd.serving.store import Store


class Blocks:
    """Blocks on one backend; the same one as the store's, or another."""

    def __init__(self, backend: KeyValue) -> None:
        self._backend = backend

    def block(self, user_id: int, other_id: int) -> None:
        """`user_id` does not want to see, nor to be seen by, `other_id`. Doing it twice changes nothing. Raises ValueError for oneself."""
        if user_id == other_id:
            raise ValueError(f"expected two members, found {user_id} twice")
        self._backend.write({_key(user_id, other_id): b"1"})

    def unblock(self, user_id: int, other_id: int) -> None:
        """Lift the block that `user_id` set. One that the other set stays."""
        self._backend.write({_key(user_id, other_id): None})

    def allowed(self, user_id: int, items: Sequence[int]) -> list[int]:
        """Those of `items` with no block in either direction, in their order; all looked up in one snapshot, now. Never oneself."""
        set_by_user = self._backend.get([key for item in items for key in (_key(user_id, item), _key(item, user_id))])
        blocked = [one is not None or other is not None for one, other in zip(set_by_user[::2], set_by_user[1::2], strict=True)]
        return [item for item, is_blocked in zip(items, blocked, strict=True) if not is_blocked and item != user_id]


def suggestions(store: Store, blocks: Blocks, user_id: int, k: int) -> list[int]:
    """The first k of a member's published list that nobody has blocked; empty without a list.

    A list should be stored deeper than k, so that the next ones move up.
    """
    top = store.read(user_id)
    return [] if top is None else blocks.allowed(user_id, top.items)[:k]  # in this order: a block made meanwhile is seen


def _key(user_id: int, other_id: int) -> str:
    return f"block/{int(user_id)}/{int(other_id)}"
