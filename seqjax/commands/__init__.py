"""What the command lines of several verbs have in common."""
