"""`python -m modalrec` is the command `modalrec`."""

from modalrec.cli import main

if __name__ == "__main__":
    main()
