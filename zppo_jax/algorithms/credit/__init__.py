"""Whose tokens are taught how much: signals, routes, margins and balance."""
