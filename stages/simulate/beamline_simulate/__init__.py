"""bl-simulate: collision events with Pythia 8 and a parametric detector. command.py is the command line."""
