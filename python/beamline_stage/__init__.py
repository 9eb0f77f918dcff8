"""What stages written in Python share: the command line (command.py, standard library only, so that --help works
everywhere) and what a run needs (run.py: checks of the output, progress). The C++ stages have common/stage."""
