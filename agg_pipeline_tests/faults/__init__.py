"""Faults that a deployment must survive, each injected for real, and a table of the outcomes."""
