"""Commands that ask for jobs and look after them."""
