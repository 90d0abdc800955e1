"""Reports of the progress of long work."""

from collections.abc import Callable

#: Called with the name of a stage, the number of steps done, their total, and a few words.
Report = Callable[[str, int, int, str], None]
