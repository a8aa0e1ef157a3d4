"""Maps of where a model looks: methods, whether they can be believed, pictures and files."""
