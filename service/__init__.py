"""Hopcount: short-link redirects whose counts are exact."""
