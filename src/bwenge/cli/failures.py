"""What a command says when it cannot do what was asked."""


class CommandFailed(Exception):
    """What the user is told: a sentence, or a few lines of PostgreSQL's log. Ends the command with exit code 1."""
