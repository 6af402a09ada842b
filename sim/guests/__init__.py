"""Guests as writers of pages: which, how often, when; what follows in expectation, and page by page."""
