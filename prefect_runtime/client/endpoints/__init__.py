"""One method per endpoint, a module for each resource of the REST API; line.py sends them. Used by rest.py."""
