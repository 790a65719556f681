"""One module for each verb: what ``tonesieve VERB`` and the function of the same name do."""
