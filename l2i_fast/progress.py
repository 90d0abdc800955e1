"""How long work tells how far it is."""

from collections.abc import Callable

#: Called with the stage's name, how far it is, of how much, and a few words.
Report = Callable[[str, int, int, str], None]
