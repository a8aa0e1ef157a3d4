"""Values, contract, errors and limits that everything else is built on."""
