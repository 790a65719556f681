"""One module a command: what ``tonesieve VERB`` and the function of the same name do."""
