"""The studio: a page in which people play in the dreams."""
