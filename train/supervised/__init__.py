"""Training and evaluation of a model on a sequence task: one run and its folder."""
