"""Reading of stored bars: pages of bars as data frames, charts.

Does not belong here: checks of bars (quality).
"""
