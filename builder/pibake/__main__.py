"""`python -m pibake`."""

from pibake.cli import main

if __name__ == "__main__":
    main()
