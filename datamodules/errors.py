"""What is a user's mistake, and how is it told or counted?"""


class InputError(Exception):
    """Bad input or usage; the command line prints it without a traceback and exits with code 2.

    Args:
        found: What was found, with the place (file, line, column, value).
        needed: What is needed instead.
        fix: The setting, flag or edit that mends it.
    """

    def __init__(self, found: str, needed: str, fix: str) -> None:
        super().__init__(f"found {found}; needed {needed}; fix: {fix}")
        self.found = found
        self.needed = needed
        self.fix = fix


class Rejected(ValueError):
    """A piece of input that a reader leaves out and counts.

    Args:
        reason: Short slug that readers count by.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
