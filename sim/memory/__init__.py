"""A guest's memory as its migration sees it: what was written, what is still to be sent, what a page costs."""
