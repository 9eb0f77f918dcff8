"""Failures with the exit codes of every beamline program. The message is one sentence that names the thing and its value."""


class Error(Exception):
    """Failed here."""
    code = 1


class UsageError(Error):
    """The command line or an argument is wrong."""
    code = 2


class InputError(Error):
    """The data are bad: schema, checksum, value."""
    code = 3


class WriteError(Error):
    """The output cannot be written."""
    code = 4


class DownstreamError(Error):
    """The reader of our output went away: a consequence, not a cause."""
    code = 5


class UpstreamError(Error):
    """The writer of our input went away, or told us that it failed: a consequence, not a cause."""
    code = 6
