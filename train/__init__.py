"""What runs the library: the command line, configuration, training, evaluation, comparisons and plots."""
