"""What an operator does to one actor: each action names the incarnation it means, so that nobody hits its successor."""

from __future__ import annotations

from typing import Any, Final

import trio

from veza.actors.core.loop import Cell
from veza.actors.core.views import ActorView, NodeView
from veza.domain.errors import NotFound, PreconditionFailed
from veza.domain.operations import Action
from veza.supervisors.child import Slot
from veza.supervisors.supervisor import Supervisor

AT_ONCE: Final = 500  # views in a row: 10 ms, which is what a poll of a stream's status may wait


class NoSuchActor(NotFound):
    """Nothing has this path, or nothing that can be acted upon: a supervisor, or one that is gone for good."""


class StaleIncarnation(PreconditionFailed):
    """The actor has been restarted since the operator looked."""


def restart(root: Supervisor, path: str, incarnation: int) -> None:
    """Cut the message in hand (ActorCrashed), start anew by the strategy; the rest of the mailbox is kept.

    A pause stays. If it is backing off, or a supervisor above it is, it is started now. Raises NoSuchActor,
    StaleIncarnation.
    """
    check(root, Action.RESTART, path, incarnation)
    root.restart_now(path)


def pause(root: Supervisor, path: str, incarnation: int, *, because: str) -> None:
    """Serve nothing more after the message in hand; the mailbox is kept. Raises NoSuchActor, StaleIncarnation."""
    _found(root, path, incarnation)[1].pause(because)


def drain(root: Supervisor, path: str, incarnation: int) -> None:
    """Take nothing new (Overloaded), serve what waits. Raises NoSuchActor, StaleIncarnation."""
    _found(root, path, incarnation)[1].drain()


def resume(root: Supervisor, path: str, incarnation: int) -> None:
    """End a pause or a drain. Raises NoSuchActor, StaleIncarnation."""
    _found(root, path, incarnation)[1].resume()


def check(root: Supervisor, action: Action, path: str, incarnation: int) -> None:
    """Whether there is that incarnation to act upon, and no restart of it on its way already. Raises NoSuchActor,
    StaleIncarnation."""
    slot, _ = _found(root, path, incarnation)
    if action is Action.RESTART and slot.doomed:
        raise StaleIncarnation("It is being restarted already; look again.")


def _found(root: Supervisor, path: str, incarnation: int) -> tuple[Slot, Cell[Any, Any]]:
    found = root.find(path)
    if found is None or found[1].gone or not isinstance(found[1].node, Cell):
        raise NoSuchActor("No actor has this path.")
    if found[1].node.incarnation != incarnation:
        raise StaleIncarnation(f"It is at its incarnation {found[1].node.incarnation} now; look again.")
    return found[1], found[1].node


class Control:
    """An operator's eye and hand on one tree."""

    def __init__(self, root: Supervisor) -> None:
        self._root = root
        self.turn = trio.Lock()
        """Held by an operator from the look to the deed, so that of two who mean one incarnation one comes too late."""

    def see(self, path: str, *, most: int | None = None) -> NodeView:
        """One node, looked up rather than looked for among all; of a dynamic supervisor's children ``most``, if it is
        given. Raises NoSuchActor."""
        if path == self._root.path:
            return self._root.view(most=most)
        found = self._root.find(path)
        if found is None:
            raise NoSuchActor("No actor has this path.")
        return found[1].view(trio.current_time(), most)

    async def actors(self) -> list[ActorView]:
        """Every actor, without the supervisors, each as it stands when it is looked at.

        There may be twenty thousand: others have their turn in between.
        """
        seen = list[ActorView]()
        for slot in self._root.walk():
            if isinstance(slot.node, Cell):
                seen.append(slot.node.view(slot.record(trio.current_time())))
                if len(seen) % AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
        return seen

    def check(self, action: Action, path: str, incarnation: int) -> None:
        """Whether there is that incarnation to act upon. Raises NoSuchActor, StaleIncarnation."""
        check(self._root, action, path, incarnation)

    def act(self, action: Action, path: str, incarnation: int, *, because: str) -> None:
        """Act upon it as above, at once and without a message. Raises NoSuchActor, StaleIncarnation."""
        match action:
            case Action.RESTART:
                restart(self._root, path, incarnation)
            case Action.PAUSE:
                pause(self._root, path, incarnation, because=because)
            case Action.RESUME:
                resume(self._root, path, incarnation)
            case Action.DRAIN:
                drain(self._root, path, incarnation)
