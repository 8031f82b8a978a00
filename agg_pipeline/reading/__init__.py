"""Bars out: pages of bars as data frames, charts.

Does not belong here: judging bars (quality).
"""
