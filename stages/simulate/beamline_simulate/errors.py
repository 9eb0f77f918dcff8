"""What a worker raises; it travels between processes."""


class Failed(Exception):
    """Generation is not possible as asked."""
