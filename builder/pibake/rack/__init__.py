"""The rack as people see it: which boards there are, which node each is, and how far it has come."""
