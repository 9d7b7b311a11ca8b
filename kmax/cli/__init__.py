"""The verbs: parse, call, print; no logic."""
