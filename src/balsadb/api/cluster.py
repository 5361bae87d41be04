"""Requests about the members of the cluster. These are ours: the dialect has no words for them."""

import msgspec


class AddMember(msgspec.Struct, forbid_unknown_fields=True):
    """A node that came later: its number, never used before, and its peer address, host:port."""

    id: int
    address: str


class MoveMember(msgspec.Struct, forbid_unknown_fields=True):
    """The new peer address of a member, host:port."""

    address: str


class RemoveMember(msgspec.Struct, forbid_unknown_fields=True):
    """`force`: although what is left has no majority that is reached."""

    force: bool = False


class Transfer(msgspec.Struct, forbid_unknown_fields=True):
    """The voter that shall lead."""

    to: int
