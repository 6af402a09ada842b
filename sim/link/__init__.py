"""Links between two hosts: bandwidth that changes, pipes that fill, several migrations on one link, outages."""
