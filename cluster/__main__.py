"""`python -m cluster`: the command line where the package is not installed, as in a Ray job."""

from cluster.cli import main

main()
