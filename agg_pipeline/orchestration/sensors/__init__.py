"""What follows a run: another tick while work is left, a rerun of what failed, the release of what a dead run holds.

Each sensor reads the present state, not an event: what one evaluation misses, because the daemon was down or the
database did not answer, the next one finds.

Does not belong here: what a notification says and how it is sent (orchestration/notifications).
"""
