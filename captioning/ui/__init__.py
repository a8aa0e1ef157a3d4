"""Widgets and page state that tabs share; no model and no server."""
