"""`python -m bwenge` is `bwenge`."""

from bwenge.cli import main

if __name__ == "__main__":
    main()
