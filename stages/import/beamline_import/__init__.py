"""bl-import: jets of ROOT and Parquet files as particles/1. command.py is the command line."""
