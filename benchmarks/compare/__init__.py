"""The same job in lerim-jobs, in bare dramatiq and in DBOS, in one run: one stage, six beside each other, one that joins them."""
