"""Supervision: start, watch, restart, give up. A tree is described by these builders and run by `run_tree`."""

from veza.supervisors.child import Backoff, Child, Intensity, Restart, permanent, temporary, transient
from veza.supervisors.dynamic import Dynamic, dynamic
from veza.supervisors.running import run_tree, running, stop
from veza.supervisors.supervisor import GaveUp, Supervisor, one_for_all, one_for_one, rest_for_one

__all__ = [
    "Backoff",
    "Child",
    "Dynamic",
    "GaveUp",
    "Intensity",
    "Restart",
    "Supervisor",
    "dynamic",
    "one_for_all",
    "one_for_one",
    "permanent",
    "rest_for_one",
    "run_tree",
    "running",
    "stop",
    "temporary",
    "transient",
]
