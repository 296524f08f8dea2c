"""All tables of a model: what each uses, one call for all, and conversion of models that are there already."""
