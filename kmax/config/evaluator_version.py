"""Which evaluator made a number.

Both engines read this constant as a parameter of `evaluate`: changing it scores every run again, from the
predictions that are there. Raise it when scores may differ, and only then.
"""

VERSION = "3"
