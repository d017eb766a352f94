"""Which of an operation's plans runs: the first guess, a tuned plan, or a pinned one."""

from gpucnn.backends.tuning.choice import Choice, Situation
from gpucnn.backends.tuning.chooser import Chooser
from gpucnn.backends.tuning.tuner import MODES, mode_for

__all__ = ["MODES", "Choice", "Chooser", "Situation", "mode_for"]
